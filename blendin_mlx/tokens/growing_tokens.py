"""Incremental tokenization of a growing text.

A guide with another tokenizer reads its own tokenization of the text so far;
:class:`GrowingTokens` updates it without tokenizing the whole text again.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import NamedTuple
from weakref import WeakKeyDictionary

from .answer_text import common_prefix
from .vocabulary import Vocabulary

# Tokenizers put a boundary before one of these after a letter or digit; whether a given one
# always does is read from its vocabulary.
_BOUNDARY_CHARS = ' \n\t.,;:!?()[]"'
# Letters of scripts written without spaces (kana, Han, Thai). Every known pre-tokenizer keeps a
# run of them together or splits it by script, and none composes under NFC, so that a text cut
# between two of them is still split into the same words elsewhere.
UNSPACED = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fa5\u0e01-\u0e30"
_BETWEEN_UNSPACED = re.compile(f"(?<=[{UNSPACED}])(?=[{UNSPACED}])")
# Without a safe boundary for so many characters, a text is settled where its tokens can be checked;
# as many characters at its end stay unsettled, so that settled tokens seldom change.
WINDOW = 64
_LOOKBACK = 16


class _Settled(NamedTuple):
    """A place up to which the tokens are final."""

    chars: int
    tokens: int
    checked: bool  # the tokens around it are compared with those of their joined text

    def lies_within(self, chars: int) -> bool:
        """Return whether it still holds in another text that shares its first ``chars``."""
        if not self.chars:
            return True
        # The character after a safe boundary makes it one, so it must still be there.
        return self.chars + (_LOOKBACK if self.checked else 1) <= chars


class GrowingTokens:
    """The tokenization of a text that grows at its end.

    Only the part after the last settled place is tokenized again. Such a place is

    - a *safe boundary*, between a letter or digit and one of :data:`_BOUNDARY_CHARS` that no token
      of this vocabulary crosses, so that both sides are tokenized as they would be alone; or,
      if there is none for long and the tokenizer is a BPE,
    - a place between two letters of a script without spaces. There the tokens next to it must be
      the tokens of their joined text. A sequence is BPE's output exactly if each adjacent pair in
      it is, so checking the joint proves the rest; if the check fails, the place is dropped.

    So the cost of an update does not depend on the length of the text. Text that has neither
    (hundreds of digits, one long run of ``=``) is tokenized again as a whole. If the normaliser of
    a tokenizer rewrites text, the tokens are those of the rewritten text, as for the whole.

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
        self._settled = [_Settled(0, 0, checked=False)]
        self.ids: list[int] = []

    def update(self, text: str) -> list[int]:
        """Return the tokens of ``text``; fast if it shares a long prefix with the previous text."""
        shared = common_prefix(text, self._text)
        while not self._settled[-1].lies_within(shared):
            self._settled.pop()
        self._text = text
        while not self._extend():
            self._settled.pop()
        return self.ids

    def _extend(self) -> bool:
        """Tokenize what follows the last settled place; return False if that place is wrong."""
        start, count, checked = self._settled[-1]
        del self.ids[count:]
        boundary = self._last_boundary(start)
        fresh = self._vocabulary.encode(self._text[start:boundary])
        if checked and not self._joins(fresh):
            return False
        self.ids += fresh
        if boundary is not None:
            self._settled.append(_Settled(boundary, len(self.ids), checked=False))
            start = boundary
            fresh = self._vocabulary.encode(self._text[start:])
            self.ids += fresh
        if self._vocabulary.is_bpe and len(self._text) - start > WINDOW:
            self._settle_between_letters(start, fresh)
        return True

    def _last_boundary(self, start: int) -> int | None:
        if self._safe is None:
            return None
        found = [match.start() for match in self._safe.finditer(self._text, start + 1)]
        return found[-1] if found else None

    def _settle_between_letters(self, start: int, tail: list[int]) -> None:
        """Settle at the last place in ``tail`` where a later check of the joint can verify it."""
        text = self._text[start:]
        if self._vocabulary.bytes_of(tail) != text.encode():
            return  # rewritten by a normaliser: places do not correspond
        found = _BETWEEN_UNSPACED.finditer(text, 1, max(1, len(text) - _LOOKBACK))
        between = {match.start() for match in found}
        ends = accumulate(len(char.encode()) for char in text)
        places = {end: n for n, end in enumerate(ends, 1) if n in between}  # by bytes before them
        written = accumulate(len(self._vocabulary.token_bytes[token] or b"") for token in tail)
        known = len(self.ids) - len(tail)
        fit = [(places[end], n) for n, end in enumerate(written, 1) if end in places]
        if fit:
            chars, tokens = fit[-1]
            self._settled.append(_Settled(start + chars, known + tokens, checked=True))

    def _joins(self, fresh: list[int]) -> bool:
        """Return whether the tokens around the joint of ``ids`` and ``fresh`` are right."""
        before = (self.ids[-n:] for n in range(1, len(self.ids) + 1))
        after = (fresh[:n] for n in range(1, len(fresh) + 1))
        joint = [*next(filter(self._is_text, before), []), *next(filter(self._is_text, after), [])]
        return self._vocabulary.encode(self._vocabulary.bytes_of(joint).decode()) == joint

    def _is_text(self, ids: list[int]) -> bool:
        """Return whether these tokens begin and end between characters."""
        try:
            self._vocabulary.bytes_of(ids).decode()
        except UnicodeDecodeError:
            return False
        return True


_SAFE: WeakKeyDictionary[Vocabulary, str] = WeakKeyDictionary()


def safe_boundaries(vocabulary: Vocabulary) -> str:
    """Return the characters of _BOUNDARY_CHARS that no token has after a letter or digit."""
    if vocabulary not in _SAFE:
        # A token may begin inside a character (U+FFFD here), which may be a letter.
        pattern = re.compile(f"(?<=[^\\W_]|\ufffd)[{re.escape(_BOUNDARY_CHARS)}]")
        tokens = b"\0".join(written for written in vocabulary.token_bytes if written)
        crossed = set(pattern.findall(tokens.decode(errors="replace")))
        _SAFE[vocabulary] = "".join(char for char in _BOUNDARY_CHARS if char not in crossed)
    return _SAFE[vocabulary]
