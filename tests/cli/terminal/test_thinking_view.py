"""Thinking in an answer is shown, dimmed on a terminal, or hidden, however the text is cut."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blendin_cli.terminal.output import Output
from blendin_cli.terminal.thinking_view import ThinkingView

ANSWER = "<think>\nHm.\x1b[2J\n</think>\n\nYes.<"
DIM, SHOWN = "\x1b[2m", "Hm.\ufffd[2J"


class Screen(io.TextIOWrapper):
    """A standard output that says whether it is a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.isatty = lambda: terminal

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture
def shown(monkeypatch):
    """``shown("dim", ["par", "ts"])``: what is on a terminal after these parts."""

    def write(think, parts, terminal=True, opened=False, quiet=True, term="xterm", begun=""):
        monkeypatch.setenv("TERM", term)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr(sys, "stdout", screen := Screen(terminal))
        view = ThinkingView(Output(), think, quiet)
        view.begin(begun)
        for part in parts:
            view.write(part, opened)
        view.end()
        view.end()
        return screen.text

    return write


def test_on_a_terminal_it_is_dimmed(shown):
    written = shown("dim", [ANSWER])
    assert click.unstyle(written) == f"<think>\n{SHOWN}\n</think>\n\nYes.<"
    assert written.startswith(DIM)
    assert DIM not in written[written.index("</think>") :]


def test_it_can_be_shown_as_the_rest(shown):
    assert shown("show", [ANSWER]) == f"<think>\n{SHOWN}\n</think>\n\nYes.<"


@pytest.mark.parametrize("terminal", [True, False])
def test_it_can_be_hidden_with_the_space_behind_it(shown, terminal):
    assert shown("hide", [ANSWER], terminal) == "Yes.<"
    assert shown("hide", ["Well. ", ANSWER], terminal) == "Well. Yes.<"
    assert shown("hide", ["Hm.</think>\n", "\n Yes."], terminal, opened=True) == "Yes."
    assert shown("hide", ["nk>Hm.</think> Yes."], terminal, begun="<thi") == "Yes."


@pytest.mark.parametrize("think", ["show", "dim"])
def test_bytes_for_a_pipe_are_those_of_the_answer(shown, think):
    assert shown(think, [ANSWER], terminal=False) == ANSWER


def test_without_colours_nothing_is_dimmed(shown):
    assert "\x1b" not in shown("dim", [ANSWER], term="dumb")


@pytest.mark.parametrize("think", ["show", "dim", "hide"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=st.lists(st.integers(0, len(ANSWER))))
def test_text_in_any_pieces_is_shown_the_same(shown, think, cuts):
    places = [0, *sorted(cuts), len(ANSWER)]
    parts = [ANSWER[a:b] for a, b in pairwise(places)]
    assert click.unstyle(shown(think, parts)) == click.unstyle(shown(think, [ANSWER]))


def test_on_a_terminal_it_is_said_once_that_something_is_hidden(shown, capsys):
    said = []
    for terminal, quiet in ((True, False), (True, True), (False, False)):
        shown("hide", [*ANSWER, *ANSWER], terminal, quiet=quiet)
        said.append(capsys.readouterr().err.count("thinking …"))
    assert said == [1, 0, 0]


@pytest.fixture
def thinkers(tiny, tmp_path):
    """A pair whose guide's template begins the thinking, which never ends."""
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[-1].content }}<think>\n")
    return (*tiny, "-qm", "8", "--aligned-template", str(template))


def test_a_template_that_begins_the_thinking_is_known(run, thinkers):
    whole = run("generate", *thinkers, "hi").out
    assert len(whole) > 4
    assert run("generate", *thinkers, "--think", "hide", "hi").out == b""
    hidden = run("generate", *thinkers, "--think", "hide", "--json", "hi")
    assert json.loads(hidden.out)["text"] == whole.decode().removesuffix("\n")


def test_it_can_be_changed_in_a_chat(run, thinkers):
    lines = b"/think hide\nhi\n/think nope\n/clear\n/think show\nhi\n"
    result = run("chat", *thinkers, stdin=lines)
    assert result.out == run("generate", *thinkers, "hi").out
    assert result.err == "/think takes one of show, dim, hide\n"
