"""Strings that end an answer, matched across token boundaries and never shown, not even in part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """Where a stop string begins in a text, where the text to show ends, and its kind."""

    start: int
    shown: int
    is_marker: bool


class StopStrings:
    """Finds the first stop string of a growing text.

    Args:
        stops: strings given by the user, cut exactly where they begin.
        markers: what begins the next turn of a template; line breaks before one belong to it.

    Example:
        >>> StopStrings(["END"]).showable("all is well, E")   # E may begin END
        13
    """

    def __init__(self, stops: Sequence[str] = (), markers: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._markers = tuple(marker.lstrip("\n") for marker in markers)
        if not all([*self._stops, *self._markers]):
            raise ValueError("a stop string must not be empty")

    def find(self, text: str, since: int = 0) -> Match | None:
        """The first stop string that begins at ``since`` or later."""
        found = [
            Match(start, start, is_marker=False)
            for stop in self._stops
            if (start := text.find(stop, since)) >= 0
        ]
        found += [
            Match(start, _without_breaks(text, start), is_marker=True)
            for marker in self._markers
            if (start := _at_line_start(text, marker, since)) >= 0
        ]
        return min(found, key=lambda match: match.shown, default=None)

    def showable(self, text: str) -> int:
        """How much of ``text`` can be shown, whatever follows."""
        held = max((_overlap(text, stop) for stop in (*self._stops, *self._markers)), default=0)
        end = len(text) - held
        return _without_breaks(text, end) if self._markers else end

    def end_of(self, text: str) -> int:
        """Where to end a text that nothing will follow: before a marker that it only began."""
        line = text.rfind("\n") + 1
        begun = line < len(text) and any(mark.startswith(text[line:]) for mark in self._markers)
        return _without_breaks(text, line) if begun else len(text)

    @property
    def longest(self) -> int:
        """Length of the longest stop string."""
        return max(map(len, (*self._stops, *self._markers)), default=0)


def _at_line_start(text: str, marker: str, since: int) -> int:
    start = text.find(marker, since)
    while start > 0 and text[start - 1] != "\n":
        start = text.find(marker, start + 1)
    return start


def _without_breaks(text: str, end: int) -> int:
    """``end`` moved to before the line breaks that precede it."""
    while end and text[end - 1] == "\n":
        end -= 1
    return end


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop`` and is not all of it."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
