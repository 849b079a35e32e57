"""One prompt by several methods: the same answers as one by one, from models loaded once."""

from __future__ import annotations

import json

import pytest

from blendin_cli import session
from blendin_mlx.batch.ragged_context import RaggedContext
from chains import write_chain
from running import pair


def test_answers_are_those_of_generate(run, tiny, monkeypatch):
    loads = []
    load = session.load_pair
    monkeypatch.setattr(session, "load_pair", lambda *a: loads.append(a) or load(*a))
    tau = ("--tau", 0.9)
    told = json.loads(
        run("compare", *tiny, *tau, "-m", 8, "--with", "nudging", "--json", "hi").text
    )
    assert len(loads) == 1
    assert told["prompt"] == "hi"
    assert [one["method"] for one in told["answers"]] == ["base", "aligned", "blendin", "nudging"]
    for one in told["answers"]:
        options = tau if one["method"] in ("blendin", "nudging") else ()
        alone = run("generate", *tiny, *options, "-m", 8, "--method", one["method"], "--json", "hi")
        assert json.loads(alone.text)["token_ids"] == one["token_ids"]
        assert one["blend"]["method"] == one["method"]


@pytest.mark.parametrize("options", [(), ("--temp", 1), ("--temp", 1, "--seed", 3)])
@pytest.mark.parametrize("size", [2, 16, "auto"])
def test_answers_written_side_by_side_are_those_of_generate(run, tiny, options, size):
    result = run("compare", *tiny, "--batch", size, "-m", 8, "--json", *options, "hi")
    answers = json.loads(result.text)["answers"]
    assert [one["method"] for one in answers] == ["base", "aligned", "blendin"]
    assert [line.split(":")[0] for line in result.err.splitlines()] == [
        one["method"] for one in answers
    ]
    for one in answers:
        seed = () if one["seed"] is None else ("--seed", one["seed"])
        asked = ("--method", one["method"], "-m", 8, "--json", *options[:2], *seed, "hi")
        assert json.loads(run("generate", *tiny, *asked).text)["token_ids"] == one["token_ids"]


def test_side_by_side_they_share_the_passes(run, tiny, monkeypatch):
    read = RaggedContext.after
    rows = []
    monkeypatch.setattr(
        RaggedContext, "after", lambda self, asked: rows.append(len(asked)) or read(self, asked)
    )
    assert run("compare", *tiny, "--batch", 3, "-m", 8, "--with", "nudging", "hi").code == 0
    assert max(rows) == 3  # of four answers


def test_a_prompt_cache_holds_one_answer_at_a_time(run, tiny, tmp_path):
    result = run("compare", *tiny, "--batch", 2, "--prompt-cache", tmp_path / "c", "hi")
    assert result.code == 2
    assert "--prompt-cache cannot be used with --batch" in result.error()


def test_texts_come_with_their_method(run, tiny):
    result = run("compare", *tiny, "-m", 4, "hi")
    assert [line for line in result.text.splitlines() if line in ("base:", "aligned:", "blendin:")]
    assert [line.split(":")[0] for line in result.err.splitlines()] == [
        "base",
        "aligned",
        "blendin",
    ]
    assert run("compare", *tiny, "-q", "-m", 4, "hi").err == ""


def test_a_model_alone_is_not_said_to_ask_a_guide(run, tiny):
    base, aligned, blend = run("compare", *tiny, "-m", 4, "hi").err.splitlines()
    assert "guide asked" in blend
    assert "guide asked" not in base + aligned
    verbose = run("compare", *tiny, "-vm", 4, "hi").err.splitlines()
    assert ["intervention" in line for line in verbose] == [False, False, True]


def test_the_opening_that_the_plain_template_leaves_to_the_base_is_not_shown(run, tmp_path):
    for name in ("base", "guide"):
        write_chain(tmp_path / name, [b"Answer", b":", b" Boil", b" it."])
    models = pair(tmp_path / "base", tmp_path / "guide")
    told = run("compare", *models, "--base-template", "plain", "hi").text
    assert "base:\nBoil it.\n" in told
    assert "base:\nAnswer: Boil it.\n" in run("compare", *models, "hi").text


@pytest.mark.parametrize("arguments", [("--with", "nope", "hi"), ("",)])
def test_refused_options(run, tiny, arguments):
    assert run("compare", *tiny, *arguments).code == 2


def test_missing_options_are_refused_before_models_are_loaded(run, tiny, monkeypatch):
    monkeypatch.setattr(session, "load_pair", lambda *_: pytest.fail("the models were loaded"))
    result = run("compare", *tiny, "--with", "proxy-tuning", "hi")
    assert result.code == 2
    assert "pass --reference MODEL" in result.error()
