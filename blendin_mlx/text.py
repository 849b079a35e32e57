"""The answer as text: bytes that complete a character, and another tokenizer's tokens of it.

The base writes tokens; a token may end in the middle of a character. Such bytes are withheld
until the character is complete. A guide with another tokenizer reads the tokens that its own
tokenizer gives for the text so far; :class:`GrowingTokens` keeps them in step without tokenizing
the whole text again.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from .vocabulary import Vocabulary

# Before one of these, after a letter or digit, tokenizers put a boundary; whether a given one
# always does is read off its vocabulary.
BOUNDARY_CHARS = ' \n\t.,;:!?()[]"，。、！？：；（）「」'


class AnswerText:
    """Tokens of the base, and the text they write.

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
        """Add a token; return the text that is now complete and was not before."""
        self._before.append((len(self.text), self.pending))
        self.ids.append(token)
        fresh, self.pending = decode_complete(
            self.pending + (self._vocabulary.token_bytes[token] or b"")
        )
        self.text += fresh
        return fresh

    def rewind(self, length: int) -> None:
        """Keep the first ``length`` tokens."""
        if length < len(self.ids):
            kept, self.pending = self._before[length]
            self.text = self.text[:kept]
            del self.ids[length:], self._before[length:]

    def finish(self) -> str:
        """The text of bytes that were still withheld when the answer ended."""
        rest = self.pending.decode(errors="replace")
        self.text += rest
        self.pending = b""
        return rest

    def token_at(self, position: int) -> int:
        """Index of the token that completed the character at ``position`` of the text."""
        starts = [length for length, _ in self._before]
        return max(n for n, start in enumerate(starts) if start <= position)


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """How many leading items (tokens, characters) two sequences share."""
    shared = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        shared += 1
    return shared


def decode_complete(data: bytes) -> tuple[str, bytes]:
    """Decode as much UTF-8 as is certain; return it and the bytes of an unfinished character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, decoder.getstate()[0]


class GrowingTokens:
    """The tokens that one tokenizer gives for a text that grows at its end.

    Only the part after the last safe boundary is tokenized again: a place between a letter or
    digit and one of :data:`BOUNDARY_CHARS` that no token of this vocabulary crosses, so that the
    text before it and the text after it are tokenized as they would be alone. (A tokenizer whose
    normaliser rewrites text gives tokens of the rewritten text, as it would for the whole.)

    Example:
        >>> growing = GrowingTokens(vocabulary)
        >>> growing.update("The sea") == vocabulary.encode("The sea")
        True
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        safe = safe_boundaries(vocabulary)
        self._safe = re.compile(f"(?<=[^\\W_])[{re.escape(safe)}]") if safe else None
        self._text = ""
        self._settled: list[tuple[int, int]] = [(0, 0)]  # characters and tokens up to a boundary
        self.ids: list[int] = []

    def update(self, text: str) -> list[int]:
        """The tokens of ``text``, which usually begins as the text before did."""
        shared = common_prefix(text, self._text)
        while self._settled[-1][0] > shared:
            self._settled.pop()
        self._text = text
        start, count = self._settled[-1]
        del self.ids[count:]
        if (boundary := self._last_boundary(start)) is not None:
            self.ids += self._vocabulary.encode(text[start:boundary])
            self._settled.append((boundary, len(self.ids)))
            start = boundary
        self.ids += self._vocabulary.encode(text[start:])
        return self.ids

    def _last_boundary(self, start: int) -> int | None:
        if self._safe is None:
            return None
        found = [match.start() for match in self._safe.finditer(self._text, start + 1)]
        return found[-1] if found else None


def safe_boundaries(vocabulary: Vocabulary) -> str:
    """The characters of BOUNDARY_CHARS that no token has directly after a letter or digit."""
    chars = f"[{re.escape(BOUNDARY_CHARS)}\ufffd]"
    pattern = re.compile(f"(?<=[^\\W_]){chars}|(?<=\ufffd){chars}")
    crossed: set[str] = set()
    for written in vocabulary.by_bytes:
        if len(written) > 1:
            crossed.update(pattern.findall(written.decode(errors="replace")))
    if "\ufffd" in crossed:  # a token may end inside a character that is not ASCII
        crossed |= {char for char in BOUNDARY_CHARS if not char.isascii()}
    return "".join(char for char in BOUNDARY_CHARS if char not in crossed)
