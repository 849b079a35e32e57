"""Stop strings, matched across token boundaries and never shown, not even in part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WIDEST = 24  # most characters that the ``*`` of a marker stands for


@dataclass(frozen=True)
class Match:
    """A stop string found: where it begins, where the text to show ends, and its kind."""

    start: int
    shown: int
    is_marker: bool


class StopStrings:
    """A matcher of stop strings in a growing text.

    Args:
        stops: strings given by the user; the text is cut exactly where one begins.
        markers: strings that begin the next turn of a template, at the start of a line; line
            breaks before one belong to it. A ``*`` stands for a few words: ``# *:`` is any heading.

    Raises:
        ValueError: an empty stop string or marker.

    Example:
        >>> StopStrings(["END"]).showable("all is well, E")   # E may begin END
        13
    """

    def __init__(self, stops: Sequence[str] = (), markers: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._markers = tuple(_Marker(marker.lstrip("\n")) for marker in markers)
        if not all([*self._stops, *(marker.form for marker in self._markers)]):
            raise ValueError("a stop string must not be empty")

    def find(self, text: str, since: int = 0) -> Match | None:
        """Return the first stop string that begins at ``since`` or later."""
        found = [
            Match(start, start, is_marker=False)
            for stop in self._stops
            if (start := text.find(stop, since)) >= 0
        ]
        found += [
            Match(start, _without_breaks(text, start), is_marker=True)
            for marker in self._markers
            if (start := marker.find(text, since)) >= 0
        ]
        return min(found, key=lambda match: match.shown, default=None)

    def showable(self, text: str) -> int:
        """Return how many characters of ``text`` can be shown, whatever follows."""
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        end = min(len(text) - held, self._line_begun(text))
        return _without_breaks(text, end) if self._markers else end

    def end_of(self, text: str) -> int:
        """Return the end of a complete text: before an unfinished marker at its end, if any."""
        line = self._line_begun(text)
        return _without_breaks(text, line) if line < len(text) else line

    def _line_begun(self, text: str) -> int:
        """Return the start of the last line if it may begin a marker, else the end of the text."""
        line = text.rfind("\n") + 1
        begun = any(marker.may_begin_with(text[line:]) for marker in self._markers)
        return line if begun else len(text)

    @property
    def longest(self) -> int:
        """Length of the longest stop string."""
        return max([*map(len, self._stops), *(m.longest for m in self._markers)], default=0)


class _Marker:
    """A string that begins a turn, at the start of a line."""

    def __init__(self, form: str) -> None:
        self.form = form
        self._before, wild, after = form.partition("*")
        words = rf"\w[\w ]{{0,{_WIDEST - 1}}}" if wild else ""
        self._whole = re.compile(f"^{re.escape(self._before)}{words}{re.escape(after)}", re.M)
        self._begun = re.compile(f"{re.escape(self._before)}({words})?") if wild else None
        self.longest = len(form) + (_WIDEST if wild else 0)

    def find(self, text: str, since: int) -> int:
        """Return where it first begins, at ``since`` or later; -1 if nowhere."""
        match = self._whole.search(text, since)
        return match.start() if match else -1

    def may_begin_with(self, line: str) -> bool:
        """Return whether a last line is an incomplete beginning of this marker."""
        if self._begun is not None and self._begun.fullmatch(line):
            return True
        return len(line) < len(self.form) and self._before.startswith(line)


def _without_breaks(text: str, end: int) -> int:
    """Return ``end`` moved to before the line breaks that precede it."""
    while end and text[end - 1] == "\n":
        end -= 1
    return end


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
