"""Text from outside made harmless for a terminal: what can deceive is made visible.

Control characters, escape sequences, and what reorders or hides text become U+FFFD. Marks that
writing needs are shown where they belong, and nowhere else: joiners inside emoji and inside Indic
or Persian words, direction marks after right-to-left letters, variation selectors after what
varies.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

# Control characters but tab and line feed, and what reorders or hides text.
_RANGES = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0xAD]
_RANGES += [0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810)]
_RANGES += [*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070)]
_RANGES += [0x3164, 0xFEFF, 0xFFA0, *range(0xFFF0, 0xFFFC), *range(0x1BCA0, 0x1BCA4)]
_RANGES += [*range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)]
_HARMFUL = frozenset(_RANGES)
_SHOWN_AS = "\ufffd"

# Scripts whose letters take joiners: Arabic, Syriac, the Indic ones, Myanmar, Khmer, Mongolian.
_JOINING = (
    *((0x0600, 0x08FF), (0x0900, 0x0DFF), (0x1000, 0x109F)),
    *((0x1780, 0x18AF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
)
_EMOJI = ((0x2190, 0x2BFF), (0x1F000, 0x1FAFF), (0xFE0F, 0xFE0F), (0x20E3, 0x20E3))
_MONGOLIAN = (0x1820, 0x18AF)
_IDEOGRAPHS = ((0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def _within(*blocks: tuple[int, int]) -> Callable[[str], bool]:
    return lambda char: any(first <= ord(char) <= last for first, last in blocks)


_varies = _within((0x1000, 0x109F), _MONGOLIAN, *_IDEOGRAPHS)
# What a mark may directly follow; the direction marks may follow anything in right-to-left text.
_FOLLOWS: dict[str, Callable[[str], bool]] = {
    "\u200c": _within(*_JOINING),
    "\u200d": _within(*_JOINING, *_EMOJI),
    **dict.fromkeys("\u180b\u180c\u180d\u180f", _within(_MONGOLIAN)),
    **dict.fromkeys(map(chr, range(0xE0100, 0xE01F0)), _within(*_IDEOGRAPHS)),
    **dict.fromkeys(map(chr, range(0xFE00, 0xFE10)), lambda c: not c.isalpha() or _varies(c)),
}
_DIRECTION = "\u061c\u200e\u200f"
_RIGHT_TO_LEFT = {"L": False, "R": True, "AL": True}


class SafeText:
    """A stream of text made harmless: however it is split, it looks the same.

    Example:
        >>> text = SafeText()
        >>> text.feed("a\\x1b") + text.feed("[2J")
        'a\\ufffd[2J'
    """

    def __init__(self) -> None:
        self._before = ""
        self._rightwards = False  # the last letter belongs to right-to-left text

    def feed(self, text: str) -> str:
        """Return the next part of the text, harmless."""
        return "".join(map(self._shown, text))

    def _shown(self, char: str) -> str:
        before, self._before = self._before, char
        if char in _FOLLOWS:
            return char if before and _FOLLOWS[char](before) else _SHOWN_AS
        if char in _DIRECTION:
            return char if self._rightwards and before not in _DIRECTION else _SHOWN_AS
        kind = unicodedata.bidirectional(char)
        self._rightwards = _RIGHT_TO_LEFT.get(kind, self._rightwards)
        return _SHOWN_AS if ord(char) in _HARMFUL else char


def harmless(text: str) -> str:
    """Return a whole text that can only be read."""
    return SafeText().feed(text)
