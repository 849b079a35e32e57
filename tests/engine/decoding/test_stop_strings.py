"""Strings that end an answer are found wherever tokens divide them, and never shown."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blendin_mlx.decoding.stop_strings import Match, StopStrings

SMALL = st.text("ab\n#", max_size=24)
STOPS = st.lists(st.text("ab\n#", min_size=1, max_size=4), max_size=3)
MARKERS = st.lists(st.text("ab#", min_size=1, max_size=3), max_size=2)


def show(stops: StopStrings, chunks: list[str]) -> tuple[str, Match | None, str]:
    """What a reader sees of a text that comes in chunks: shown, the match, the text so far."""
    text, shown = "", ""
    for chunk in chunks:
        since = max(0, len(text) - stops.longest)
        text += chunk
        if (match := stops.find(text, since)) is not None:
            assert text.startswith(shown)
            assert len(shown) <= match.shown  # nothing of it was shown before
            return text[: match.shown], match, text
        shown = text[: max(len(shown), stops.showable(text))]
    return text, None, text


def first_places(text: str, stops: list[str], markers: list[str]) -> list[int]:
    """Where the text to show must end, by the plain rule, for each string in it."""
    found = [text.find(stop) for stop in stops if stop in text]
    for marker in markers:
        starts = (n for n in range(len(text)) if text.startswith(marker, n))
        lines = [n for n in starts if n == 0 or text[n - 1] == "\n"]
        found += [len(text[:n].rstrip("\n")) for n in lines[:1]]
    return found


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(places)]


@given(SMALL, STOPS, MARKERS, st.lists(st.integers(0, 24), max_size=10))
@example("ab\n\n#", [], ["#"], [1, 2, 3, 4])
@example("aab", ["ab"], [], [1, 2])
def test_what_is_shown_is_what_comes_before_the_first_match(
    text: str, stops: list[str], markers: list[str], cuts: list[int]
) -> None:
    finder = StopStrings(stops, markers)
    shown, match, read = show(finder, split(text, cuts))
    places = first_places(read, stops, markers)
    assert (match is not None) == bool(places)
    assert shown == (read[: min(places)] if places else read)


@given(SMALL, STOPS, MARKERS, st.lists(st.integers(0, 24), max_size=10))
def test_a_stop_string_is_found_across_any_split(
    text: str, stops: list[str], markers: list[str], cuts: list[int]
) -> None:
    _, whole, _ = show(StopStrings(stops, markers), [text])
    _, parts, read = show(StopStrings(stops, markers), split(text, cuts))
    assert (whole is None) == (parts is None)
    assert parts is None or len(read) <= len(text)


@given(SMALL, STOPS, MARKERS, SMALL)
def test_what_may_be_shown_stays_so_whatever_follows(
    text: str, stops: list[str], markers: list[str], more: str
) -> None:
    finder = StopStrings(stops, markers)
    if finder.find(text) is None:
        shown = finder.showable(text)
        match = finder.find(text + more)
        assert match is None or shown <= match.shown
        assert match is not None or shown <= finder.showable(text + more) or more == ""


def test_without_stop_strings_everything_is_shown() -> None:
    stops = StopStrings()
    assert stops.showable("all\n\n") == 5
    assert stops.find("all") is None
    assert stops.longest == 0


def test_the_beginning_of_a_stop_string_is_withheld_and_no_more() -> None:
    stops = StopStrings(["END"])
    assert [stops.showable(f"all is well{end}") for end in ("", "E", "EN", "ENE", "ENX")] == [
        *(11, 11, 11),
        *(13, 14),
    ]


def test_a_marker_counts_only_at_the_start_of_a_line() -> None:
    stops = StopStrings(markers=["\nUser:"])
    assert stops.find("The User: is") is None
    assert stops.find("User:") == Match(0, 0, is_marker=True)
    assert stops.find("Yes.\n\n\nUser: and") == Match(7, 4, is_marker=True)
    assert stops.find("A User: is\nUser:") == Match(11, 10, is_marker=True)


def test_a_stop_string_of_the_user_is_cut_exactly_where_it_begins() -> None:
    assert StopStrings(["User:"]).find("The\nUser: is") == Match(4, 4, is_marker=False)
    assert StopStrings(["\n\n"]).find("a\n\nb") == Match(1, 1, is_marker=False)


def test_line_breaks_before_a_possible_marker_are_withheld() -> None:
    assert StopStrings(markers=["# Query:"]).showable("Yes.\n\n") == 4
    assert StopStrings(markers=["# Query:"]).showable("Yes.\n\n# Q") == 4
    assert StopStrings(markers=["# Query:"]).showable("Yes.\n\nNo") == 8
    assert StopStrings(["END"]).showable("Yes.\n\n") == 6


@pytest.mark.parametrize(
    ("text", "end"),
    [("Yes.\n\n# Que", 4), ("# Q", 0), ("Yes. # Que", 10), ("Yes.\n# Quiz", 11), ("Yes.\n", 5)],
)
def test_a_text_that_is_cut_off_ends_before_a_marker_it_began(text: str, end: int) -> None:
    assert StopStrings(["Que"], markers=["# Query:"]).end_of(text) == end


@pytest.mark.parametrize(
    "heading", ["# Query:", "# Answer:", "# Question:", "# Note:", "# Question 2:", "# Short note:"]
)
def test_any_heading_of_the_templates_form_ends_the_turn(heading: str) -> None:
    stops = StopStrings(markers=["# *:"])
    assert stops.find(f"Yes.\n\n{heading} more") == Match(6, 4, is_marker=True)
    for size in range(1, len(heading)):
        assert stops.showable(f"Yes.\n\n{heading[:size]}") == 4
        assert stops.end_of(f"Yes.\n\n{heading[:size]}") == 4


@pytest.mark.parametrize(
    "line",
    ["## Note:", "#1: one", "x # Note:", "# " + "long " * 9 + ":", "#!/bin/sh"],
)
def test_a_line_of_another_form_does_not(line: str) -> None:
    stops = StopStrings(markers=["# *:"])
    assert stops.find(f"Yes.\n{line}\n") is None
    assert stops.showable(f"Yes.\n{line} and") == len(f"Yes.\n{line} and")


@given(st.text("# Note:\n2", max_size=30), st.lists(st.integers(0, 30), max_size=8))
def test_nothing_of_a_heading_is_shown_wherever_tokens_divide_it(
    text: str, cuts: list[int]
) -> None:
    stops = StopStrings(markers=["# *:"])
    shown, match, read = show(stops, split(text, cuts))
    whole = re.search(r"^# \w[\w ]{0,23}:", read, re.MULTILINE)
    assert (match is not None) == (whole is not None)
    assert shown == (read[: whole.start()].rstrip("\n") if whole else read)


@pytest.mark.parametrize(("stops", "markers"), [([""], []), ([], [""]), ([], ["\n"])])
def test_an_empty_stop_string_is_refused(stops: list[str], markers: list[str]) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        StopStrings(stops, markers)
