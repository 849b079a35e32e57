"""A trace shown in the terminal says who decided, and what of a damaged one can be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from blendin_cli.terminal.blend_view import BlendView, sparkline
from commands import Result
from recorded_traces import HOSTILE, step, write_trace

Run = Callable[..., Result]


def test_the_answer_is_marked_by_who_decided(run: Run, tmp_path: Path) -> None:
    result = run("trace", "view", write_trace(tmp_path / "t.jsonl"))
    lines = result.text.splitlines()
    assert (result.code, result.err) == (0, "")
    assert lines[0] == "Plain ‹kept› «over»"
    assert "α ·▂█ 2 interventions in 3 tokens (66.7%), 1 override" in lines
    assert lines[-1] == "    2  'wish' → ' over'  α 0.90  base 0.30  guide 0.80"


def test_colour_deepens_with_alpha_and_differs_by_decision() -> None:
    view = BlendView(marks=False)
    pieces = {view.piece(who, alpha, "x") for who in ("kept", "override") for alpha in (0.1, 0.9)}
    assert len(pieces) == 4
    assert view.piece("base", None, "x") == "x"
    assert all(piece.endswith("\x1b[0m") for piece in pieces)


def test_text_is_made_harmless(run: Run, tmp_path: Path) -> None:
    result = run("trace", "view", write_trace(tmp_path / "t.jsonl", HOSTILE))
    assert "\x1b" not in result.text
    assert "\u202e" not in result.text


@pytest.mark.parametrize("width", [1, 2, 60])
def test_a_sparkline_is_as_wide_as_it_may_be(width: int) -> None:
    assert sparkline([None, 0.0, 1.0] * 30, width).__len__() == width
    assert sparkline([]) == ""


def test_a_trace_cut_off_is_shown_up_to_there(run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:3])[:-20])
    result = run("trace", "view", path)
    assert result.code == 0
    assert result.text.splitlines()[0] == "Plain"
    assert "t.jsonl:3 is not a trace record; shown up to there" in result.err


@pytest.mark.parametrize("bad", ['{"type": "step"}', '{"type": "x"}', "[]", "oops"])
def test_a_bad_line_is_named(bad: str, run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], bad, *lines[3:]]))
    assert "t.jsonl:3 is no" in run("trace", "view", path).err


def test_another_version_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    result = run("trace", "view", write_trace(tmp_path / "t.jsonl", written_by="9.9"))
    (line,) = result.err.splitlines()
    assert "written by version 9.9" in line


@pytest.mark.parametrize("command", ["view", "html", "verify"])
@pytest.mark.parametrize(
    "content",
    [
        "",
        "hello\n",
        "[" * 100_000,
        '{"type": "step"}\n',
        '{"type": "run"}\n',
        '{"type": "run", "models": {"base": {"name": "a"}, "aligned": {"name": 3}}}\n',
    ],
    ids=["empty", "text", "deep", "step", "run", "name"],
)
def test_a_file_that_is_not_a_trace_is_refused(
    command: str, content: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(content)
    result = run("trace", command, path)
    assert result.code == 1
    assert f"{path}" in result.error()
    assert re.search("is (no|not a) trace", result.error())


@pytest.mark.parametrize("kept", [slice(0, 1), slice(0, None, 4)], ids=["cut off", "ended"])
def test_a_trace_without_steps_is_not_confirmed(kept: slice, run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[kept]))
    result = run("trace", "verify", path)  # of models that do not exist, and are not looked for
    assert result.code == 1
    assert result.error() == f"blendin: {path} has no steps: there is nothing to verify"
    assert "0 interventions in 0 tokens" in run("trace", "view", path).text


ENDED = {**step(3, "", 0, 7, None), "source": "aligned", "stop_prob": 0.9}


def test_an_end_that_the_guide_wished_is_no_override(run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl", more=[ENDED])
    told = run("trace", "view", path).text
    assert "1 override" in told
    assert "(nothing)" not in told
    assert "end: stop, as the guide wished" in told
    run("trace", "html", path)
    page = (tmp_path / "t.html").read_text()
    assert "1 override, end: stop, as the guide wished" in page
    assert "guide: the answer is over" in page


def test_view_names_models_and_method(run: Run, tmp_path: Path) -> None:
    told = run("trace", "view", write_trace(tmp_path / "t.jsonl")).text
    assert "big, guided by small; method blendin, τ 0.4, end: stop" in told


@pytest.mark.parametrize("name", ["alpha", "prob"])
@pytest.mark.parametrize("value", [-5, 7, 10**400], ids=["low", "high", "huge"])
def test_a_value_out_of_range_is_shown_or_named(
    name: str, value: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_trace(tmp_path / "t.jsonl", more=[{**step(3, "x", 5, 5, 0.5), name: value}])
    monkeypatch.setattr("blendin_cli.terminal.blend_view.wants_marks", lambda: False)
    for command in ("view", "html"):
        result = run("trace", command, path)
        assert result.code == 0
        assert ("t.jsonl:5 is not a step" in result.err) == (value == 10**400)


def test_indices_may_begin_anywhere(run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl", more=[step(100, "x", 5, 6, 0.5)])
    run("trace", "html", path)
    page = (tmp_path / "t.html").read_text()
    assert 'href="#r1t3">100<' in page
    assert 'id="r1t3"' in page


def test_tokens_of_the_guide_alone_override_nothing(run: Run, tmp_path: Path) -> None:
    alone = {**step(3, " alone", 3, 4, 1.0), "source": "aligned", "base": None}
    path = write_trace(tmp_path / "t.jsonl", more=[alone])
    shown = run("trace", "view", path)
    assert (shown.code, shown.err) == (0, "")
    assert shown.text.splitlines()[0] == "Plain ‹kept› «over» alone"
    assert "α ·▂██ 3 interventions in 4 tokens (75.0%)" in shown.text.splitlines()
    assert run("trace", "html", path).code == 0
    page = (tmp_path / "t.html").read_text()
    assert "decided by guide alone" in page
    assert "3 interventions (75.0%), end" in page
