"""Figures of a guide: counted as the definitions say, told with what they cannot tell."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.diagnose_page import page
from blendin_cli.diagnose_plot import draw
from blendin_cli.verdict import (
    FEWEST,
    Alone,
    Blended,
    cascades,
    interval,
    is_stable,
    ranked,
    rate,
    summarise,
    verdict,
)

ONE = Blended((True, False, False, False), 1, 0, 0, 0.5, 0.6, 0.9, False, 4.0)
BASE = [Alone(False, 5.0)]
patterns = st.lists(st.lists(st.booleans(), min_size=1, max_size=20), min_size=1, max_size=9)


@given(asked=st.lists(st.booleans(), max_size=50))
def test_bursts_hold_all_interventions(asked):
    assert sum(cascades(asked)) == sum(asked)
    assert len(cascades(asked)) == sum(
        now and not before for before, now in zip([False, *asked], asked, strict=False)
    )


@given(asked=patterns)
def test_the_interval_is_within_what_the_answers_show(asked):
    answers = [replace(ONE, asked=tuple(one)) for one in asked]
    low, high = interval(answers)
    each = [rate([answer]) for answer in answers]
    assert min(each) <= low <= high <= max(each)
    assert min(each) <= rate(answers) <= max(each)


def test_equal_answers_are_stable_once_there_are_enough():
    assert not is_stable([ONE] * (FEWEST - 1))
    assert is_stable([ONE] * FEWEST)
    assert not is_stable([ONE, replace(ONE, asked=(False,) * 4)] * FEWEST)


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ((True,) * 4, "a warning"),
        ((False,) * 9 + (True,), "no warning"),
    ],
)
def test_the_verdict_follows_the_paper_s_line(asked, word):
    lines = verdict(summarise("g", [replace(ONE, asked=asked)] * 9, BASE, BASE))
    assert lines[0].startswith(word)
    assert "say nothing of quality" in lines[-1]


def test_what_straddles_the_line_is_undecided():
    mixed = [replace(ONE, asked=(True,) * 2), replace(ONE, asked=(False,) * 4)] * 3
    assert verdict(summarise("g", mixed, BASE, BASE))[0].startswith("undecided")


def test_lost_ends_bursts_and_runaways_are_named():
    bad = replace(ONE, asked=(True,) * 5, base_ends_lost=2, hit_limit=True)
    text = " ".join(verdict(summarise("g", [bad] * 9, BASE, BASE)))
    assert "bursts of 5.0 tokens" in text
    assert "the base wanted to end and was not let" in text
    assert "100% of the answers ran into the length limit, 0% of the base's own" in text


def test_the_guide_that_is_asked_least_comes_first():
    often = summarise("often", [replace(ONE, asked=(True,) * 4)], BASE, BASE)
    seldom = summarise("seldom", [ONE], BASE, BASE)
    assert [report.guide for report in ranked([often, seldom])] == ["seldom", "often"]


def test_two_guides_over_a_prompt_file(run, tiny, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "one"}\n\n{"prompt": "two"}\n')
    result = run(
        "diagnose", *tiny, "--guide", tiny[3], "--prompts", file, "-m", 6, "--tau", 0.9, "--json"
    )
    first, second = json.loads(result.text)
    assert (first["prompts"], first["guide"]) == (2, "aligned")
    assert first["rate"] == second["rate"]
    assert first["verdict"]
    assert "aligned: 2 of 2 prompts" in result.err
    lines = (json.loads(line) for line in run(
        "run", *tiny, "-m", 6, "--tau", 0.9, file).text.splitlines())  # fmt: skip
    told = [(one["blend"]["interventions"], one["usage"]["completion_tokens"]) for one in lines]
    asked, tokens = (sum(column) for column in zip(*told, strict=True))
    assert first["rate"] == pytest.approx(asked / tokens)


def test_figures_for_a_person(run, tiny, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("one\n")
    text = run("diagnose", *tiny, "--prompts", file, "-m", 3, "-q").text
    assert text.startswith("aligned\n  prompts       1\n  interventions")
    assert "say nothing of quality" in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"prompt": "x"}\n{"p": 1}\n', "line 2"),
        ("a.jsonl", b"[]\n", "line 1"),
        ("a.txt", b"\n", "no prompts"),
        ("a.txt", b"\xff\n", "byte 0"),
    ],
)
def test_bad_lines_are_named(run, tiny, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    result = run("diagnose", *tiny, "--prompts", tmp_path / name)
    assert result.code == 2
    assert said in result.error()


def test_the_built_in_prompts_are_some_thirty():
    from blendin_cli.diagnose import read_prompts

    assert len(set(read_prompts(None))) == 30


REPORTS = [
    summarise("often", [replace(ONE, asked=(True,) * 20)], BASE, BASE),
    summarise("$<b>never$", [replace(ONE, asked=(False,))], BASE, BASE),
]


def test_base_alone_is_asked_once_and_a_page_and_a_picture_are_written(run, tiny, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the plot extra to draw")
    file = tmp_path / "mine.txt"
    file.write_text("one\ntwo\n")
    html, png = tmp_path / "a.html", tmp_path / "a.png"
    result = run(
        "diagnose", *tiny, "--guide", tiny[3], "--prompts", file, "-m", 3, "--json",
        "--html", html, "--png", png,
    )  # fmt: skip
    first, second = json.loads(result.text)
    assert first["base_tokens_per_s"] == second["base_tokens_per_s"]
    assert first["guide_tokens_per_s"] != second["guide_tokens_per_s"]
    assert first["rate"] == pytest.approx(sum(first["rates"]) / 2)  # answers of equal length
    assert first["verdict"][0] in html.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {html}" in result.err


def test_a_page_holds_any_name_and_any_run_and_fetches_nothing():
    shown = page(ranked(REPORTS))
    assert "$&lt;b&gt;never$" in shown
    assert "<b>" not in shown
    assert not re.search(r"https?:|src=|@import|url\(", shown.replace("script-src", ""))
    assert "12 or more tokens: 1 times" in shown


def test_any_name_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the plot extra to draw")
    draw(REPORTS, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_without_matplotlib_one_line_names_the_extra(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("diagnose", *tiny, "--png", tmp_path / "a.png")
    assert result.code == 2
    assert "blendin-mlx[plot]" in result.error()
