"""What a person sees: text made harmless on a terminal, the same however it is split."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.terminal.interrupts import interruptible, unswallowed_interrupt
from blendin_cli.terminal.output import Output
from blendin_cli.terminal.progress import progress
from blendin_cli.terminal.safe_text import SafeText, harmless

HOSTILE = {
    "clipboard": "\x1b]52;c;aGk=\x07",
    "link": "\x1b]8;;http://x\x1b\\",
    "C1": "\x9b2J",
    "erase": "a\r\x1b[Kb",
    "delete": "\x7f\x08",
    "bidi": "a\u202eb\u2066c\u061c",
    "zero width": "a\u200bb\ufeffc\u2060",
    "tags": "\U000e0041\U000e007f",
    "annotation": "\ufff9a\ufffb",
}

# Marks that are seen, though Unicode counts them as formats.
SEEN = {0x6DD, 0x70F, 0x8E2, 0x890, 0x891, 0x110BD, 0x110CD, *range(0x600, 0x606)}
SEEN |= set(range(0x13430, 0x13440))  # how hieroglyphs are arranged


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_made_harmless(text):
    shown = harmless(text)
    assert "\ufffd" in shown
    kept = [char for char in text if char in shown]
    assert all(char.isprintable() for char in kept)


def test_only_text_newline_and_tab_survive():
    """Of all characters: what controls, reorders or hides is replaced, each by itself."""
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        shown = harmless(chr(code))
        unseen = unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")
        if unseen and code not in SEEN and chr(code) not in "\t\n":
            assert shown == "\ufffd", hex(code)
        elif not unseen:
            assert shown in (chr(code), "\ufffd"), hex(code)


@pytest.mark.parametrize(
    "text",
    [
        "👩🏽‍🚀 👨‍👩‍👧 ❤️‍🔥 1️⃣",
        "می‌خواهم",  # Persian, with a joiner that parts
        "क्‍ष श्री‌मान",
        "ᠮᠣᠩᠭᠣᠯ᠋",
        "葛󠄀城",
        "שלום!\u200f (hello)",
        "مرحبا\u200e 5",
    ],
)
def test_marks_that_writing_needs_are_shown_as_written(text):
    assert harmless(text) == text
    safe = SafeText()
    assert "".join(map(safe.feed, text)) == text


@given(st.text("ab.", min_size=1), st.sampled_from("\u200c\u200d\u200e\u200f\u061c\ufe0f"))
def test_the_same_marks_in_latin_words_are_made_visible(text, mark):
    shown = harmless(f"{text}{mark}com")
    assert shown == f"{text}\ufffdcom" or (mark == "\ufe0f" and text.endswith("."))


def test_marks_that_follow_each_other_cannot_hide_data():
    assert harmless("م\u200c\u200d\u200c") == "م\u200c\ufffd\ufffd"
    assert harmless("א\u200f\u200e\u200f") == "א\u200f\ufffd\ufffd"


@pytest.mark.parametrize("text", ["plain\n\ttext", "naïve 日本語 العربية", "emoji 🥚", "a\u0301"])
def test_ordinary_text_stays(text):
    assert harmless(text) == text


@given(st.text(), st.lists(st.integers(0, 40)))
def test_any_split_looks_the_same(text, cuts):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(places)]
    safe = SafeText()
    assert "".join(map(safe.feed, parts)) == harmless(text)


class Screen(io.TextIOWrapper):
    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO())
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def bytes(self) -> bytes:
        return self.buffer.getvalue()  # type: ignore[attr-defined,no-any-return]


def written(monkeypatch, terminal, *parts):
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    output = Output()
    for part in parts:
        output.write(part)
    output.end()
    return screen.bytes


def test_text_for_a_terminal_is_made_harmless(monkeypatch):
    assert written(monkeypatch, True, "a\x1b", "[2Jb") == "a\ufffd[2Jb\n".encode()


def test_bytes_for_a_pipe_are_unchanged(monkeypatch):
    assert written(monkeypatch, False, "a\x1b", "[2Jb\u202e") == "a\x1b[2Jb\u202e\n".encode()


@pytest.mark.parametrize(
    ("parts", "expected"), [(("a\n",), b"a\n"), (("a", ""), b"a\n"), ((), b"")]
)
def test_the_last_line_is_ended_once(monkeypatch, parts, expected):
    assert written(monkeypatch, False, *parts) == expected


def test_first_interrupt_asks_and_second_breaks_off():
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as interrupt:
        assert not interrupt()
        signal.raise_signal(signal.SIGINT)
        assert interrupt()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_in_a_pipe_names_once_what_takes_long(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 2.5, 3.0, 9.0, 9.1])
    monkeypatch.setattr("blendin_cli.terminal.progress.time.monotonic", lambda: next(clock))
    with progress() as report:
        for done in range(4):
            report("big", done * 10**6, 5 * 10**6)
        report("quick", 0, 1)
        report("quick", 1, 1)
    assert capsys.readouterr().err == "big: 5 MB\n"


def test_progress_can_be_silent(monkeypatch, capsys):
    monkeypatch.setattr("blendin_cli.terminal.progress.PATIENCE_S", 0)
    with progress(quiet=True) as report:
        report("big", 0, 1)
    assert capsys.readouterr().err == ""


def test_progress_bars_on_a_terminal_leave_nothing_behind(monkeypatch):
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as report:
        report("big", 1, 2)
    screen.flush()
    assert b"big" in screen.bytes
    assert screen.bytes.rstrip().endswith(b"\r\x1b[K")  # the line is erased


def test_an_interrupt_that_a_library_swallows_is_not_lost() -> None:
    def swallow() -> None:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), unswallowed_interrupt():
        swallow()
    assert signal.getsignal(signal.SIGINT) is before
