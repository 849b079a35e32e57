"""The answer as text, one complete character after the other.

The base writes tokens; a token may end in the middle of a character. Such bytes are withheld
until the character is complete.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from .vocabulary import Vocabulary


class AnswerText:
    """The tokens of an answer, and the text they write.

    Bytes that can never become a character are shown as U+FFFD, as soon as that is certain.

    Example:
        >>> answer = AnswerText(vocabulary)
        >>> answer.append(token)        # the text that this token completes
        'Hello'
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.ids: list[int] = []
        self.text = ""
        self.pending = b""
        self._before: list[tuple[int, bytes]] = []  # length of text and pending bytes per token

    def append(self, token: int) -> str:
        """Add a token; return the text that it completes."""
        self._before.append((len(self.text), self.pending))
        self.ids.append(token)
        fresh, self.pending = decode_complete(
            self.pending + (self._vocabulary.token_bytes[token] or b"")
        )
        self.text += fresh
        return fresh

    def text_before(self, count: int) -> str | None:
        """Return the text before the last ``count`` tokens, at least one of them.

        None where it ends inside a character.
        """
        kept, pending = self._before[len(self.ids) - count]
        return None if pending else self.text[:kept]

    def rewind(self, length: int) -> None:
        """Keep the first ``length`` tokens."""
        if length < len(self.ids):
            kept, self.pending = self._before[length]
            self.text = self.text[:kept]
            del self.ids[length:], self._before[length:]

    def finish(self) -> str:
        """Complete the answer; return the text of the bytes that were still withheld."""
        rest = self.pending.decode(errors="replace")
        self.text += rest
        self.pending = b""
        return rest

    def token_at(self, position: int) -> int:
        """Return the index of the token that completed the character at ``position``."""
        starts = [length for length, _ in self._before]
        return max(n for n, start in enumerate(starts) if start <= position)


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many leading items (tokens, characters) two sequences share."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:  # the common case, in one comparison
        return shorter
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), shorter)


def decode_complete(data: bytes) -> tuple[str, bytes]:
    """Decode as much UTF-8 as is certain; return it and the bytes of an unfinished character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    rest = decoder.getstate()[0]
    if rest[:1] == b"\xed" and rest[1:] >= b"\xa0":  # a surrogate: Python waits for its last byte
        return text + rest.decode(errors="replace"), b""
    return text, rest
