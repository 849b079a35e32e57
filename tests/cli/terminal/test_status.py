"""The status line: what is going on, on a terminal alone, gone when there is something to read."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.terminal.layout import fitted, in_bytes, two_columns, wrapped
from blendin_cli.terminal.output import Output, complain, say
from blendin_cli.terminal.status import StatusLine, Work, in_tokens


class Screen(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def on_terminal(monkeypatch):
    """``on_terminal()``: standard error as a terminal, with a status line of its own."""

    def opened():
        monkeypatch.setattr(sys, "stderr", screen := Screen(True))
        return screen

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("blendin_cli.terminal.output.STATUS", StatusLine())
    yield opened
    status().clear()


def status():
    from blendin_cli.terminal import output

    return output.STATUS


def left(screen):
    """What is still on the line that the cursor is in."""
    return re.split(r"\r\x1b\[K", screen.getvalue().replace("\x1b[0m\x1b[K", "\x1b[0m"))[-1]


def test_it_is_drawn_at_once_and_erased(on_terminal):
    screen = on_terminal()
    status().show("checking a model")
    assert "checking a model" in left(screen)
    status().clear()
    assert left(screen) == ""


def test_it_is_gone_when_the_answer_begins(on_terminal, monkeypatch):
    screen = on_terminal()
    monkeypatch.setattr(sys, "stdout", out := Screen(True))
    out.buffer = io.BytesIO()
    status().show("reading the prompt", 1, 2, in_tokens)
    Output().write("The sea")
    status()._draw()  # as the next tick would
    assert left(screen) == ""


def test_it_leaves_an_open_line_of_an_answer_alone(on_terminal, monkeypatch):
    """As the beginning that /alt keeps, before the models go on from there."""
    screen = on_terminal()
    monkeypatch.setattr(sys, "stdout", out := Screen(True))
    out.buffer = io.BytesIO()
    output = Output()
    output.write("The sea")
    status().show("reading the prompt")
    assert screen.getvalue() == ""
    output.end()
    status().show("reading the prompt")
    assert "reading the prompt" in left(screen)


def test_a_line_for_a_person_takes_its_place(on_terminal):
    screen = on_terminal()
    status().show("reading the prompt")
    say("by the way")
    assert re.sub(r"\x1b\[\d*m", "", left(screen)) == "by the way\n"
    status()._draw()
    assert "reading the prompt" in left(screen)


@pytest.mark.parametrize("hidden", ["pipe", "quiet", "plain"])
def test_it_shows_on_a_terminal_alone(on_terminal, monkeypatch, hidden):
    screen = on_terminal()
    if hidden == "pipe":
        screen.isatty = lambda: False
    if hidden == "plain":
        monkeypatch.setenv("NO_COLOR", "1")
    status().silent = hidden == "quiet"
    status().show("checking a model")
    status().clear()
    assert screen.getvalue() == ""


def test_names_on_it_are_made_harmless(on_terminal):
    screen = on_terminal()
    status().show("checking \x1b]52;c;aGk=\x07")
    assert "\x1b]52" not in screen.getvalue()


def test_it_tells_tokens_of_tokens_and_the_time_left():
    work = Work("reading the prompt", 0, 1000, 4000, in_tokens)
    assert work.line(0, 50) == "reading the prompt  25% · 1,000 of 4,000 tokens"
    assert work.line(14, 200).endswith("25% · 1,000 of 4,000 tokens · 42 s left")
    assert Work("checking", 0).line(7, 80) == "checking · 7 s"
    assert " 600 MB of 1.20 GB" in Work("loading", 0, 600e6, 1.2e9).line(0, 80)


@given(st.integers(1, 120), st.floats(0, 1e4), st.integers(0, 10**10), st.integers(0, 10**10))
def test_status_line_never_wraps(columns, now, done, total):
    assert len(Work("loading a model of a long name", 0, done, total).line(now, columns)) < columns


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, "loading a-model  ████████████░░░░ 75% · 300 of 400 MB · 10 s left"),
        (60, "loading a-model  75% · 300 of 400 MB · 10 s left"),
        (40, "loading a-model  75% · 10 s left"),
        (30, "loading a-model  75%"),
        (20, "loading a-model  7…"),
        (2, "…"),
        (1, ""),
    ],
)
def test_parts_that_do_not_fit_are_left_out_whole(columns, line):
    assert Work("loading a-model", 0, 300e6, 400e6).line(30, columns) == line


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 MB"), (253e6, "253 MB"), (999.6e6, "1.00 GB"), (1.07e9, "1.07 GB")],
)
def test_sizes_are_in_mb_and_gb(count, written):
    assert in_bytes(count) == written


words = st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=30)


@given(words, st.integers(16, 100))
def test_lines_are_broken_between_words_alone(parts, width):
    lines = wrapped(" ".join(parts), width).split("\n")
    assert " ".join(lines).split() == parts
    assert max(map(len, lines)) <= width


@given(st.lists(words, min_size=1, max_size=4), st.integers(20, 100))
def test_lists_fit_their_terminal_and_lose_no_word(rows, width):
    lines = two_columns([(row[0], " ".join(row)) for row in rows], width)
    assert " ".join(lines).split() == [word for row in rows for word in (row[0], *row)]
    assert max(map(len, lines)) <= width


@given(st.text("ab 日本🥚", max_size=30), st.integers(1, 20))
def test_cells_of_tables_are_as_wide_as_they_say(text, cells):
    from rich.cells import cell_len

    assert cell_len(fitted(text, cells)) == cells


def test_an_error_is_broken_between_words_on_a_terminal_alone(on_terminal, monkeypatch):
    monkeypatch.setattr("blendin_cli.terminal.output.columns", lambda: 20)
    words = "blendin: no pair is called 'demoo'; did you mean demo?"
    screen = on_terminal()
    complain(words)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 20
    assert " ".join(lines).split() == words.split()
    monkeypatch.setattr(sys, "stderr", pipe := Screen(False))
    complain(words)
    assert pipe.getvalue() == f"{words}\n"


def test_the_summaries_of_commands_are_whole_in_a_narrow_terminal(run, monkeypatch):
    wide = run("--help").text.split("Commands:")[1]
    monkeypatch.setattr("blendin_cli.terminal.output.columns", lambda stream=None: 40)
    narrow = run("--help").text.split("Commands:")[1]
    assert narrow.split() == wide.split()
    assert "..." not in narrow


@pytest.mark.parametrize("width", [40, 60, 100])
@pytest.mark.parametrize("command", ["generate", "chat", "run", "diagnose"])
def test_help_fits_its_terminal_and_uses_it(run, monkeypatch, command, width):
    monkeypatch.setattr("blendin_cli.terminal.output.columns", lambda stream=None: width)
    text = run(command, "--help").text
    assert 0.8 * width < max(map(len, text.splitlines())) <= width
    assert not re.search(r"\S\| \S", text)  # as in [base| aligned]
