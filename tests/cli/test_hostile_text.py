"""A text that a model's tokenizer fails on is an error of its own line; the others are answered."""

from __future__ import annotations

import json

import pytest

from tiny_folders import write_model

PANICS = {"type": "Split", "pattern": {"Regex": "(§+)+$"}, "behavior": "Isolated", "invert": False}
PANICKED = "§" * 50 + "!"


@pytest.fixture
def pair(tmp_path):
    """A pair whose aligned model's tokenizer panics on some text."""
    write_model(tmp_path / "base", 1, chat_template=False)
    write_model(tmp_path / "aligned", 2)
    file = tmp_path / "aligned" / "tokenizer.json"
    content = json.loads(file.read_text())
    both = {"type": "Sequence", "pretokenizers": [PANICS, content["pre_tokenizer"]]}
    file.write_text(json.dumps({**content, "pre_tokenizer": both}))
    return ("--base", tmp_path / "base", "--aligned", tmp_path / "aligned")


def test_run_answers_the_other_lines(run, pair):
    lines = (json.dumps({"prompt": prompt, "max_tokens": 5}) for prompt in ("hi", PANICKED, "ho"))
    result = run("run", *pair, "-", stdin="\n".join(lines).encode())
    first, bad, last = map(json.loads, result.text.splitlines())
    assert result.code == 1
    assert "aligned: its tokenizer cannot read this text" in bad["error"]
    assert len(first["token_ids"]) == len(last["token_ids"]) == 5
    assert len(result.err.splitlines()) == 2


def test_chat_survives_hostile_text(run, pair):
    result = run("chat", *pair, "-q", "-m", 5, stdin=f"hi\n{PANICKED}\nho\n".encode())
    assert result.code == 2
    assert result.text.count("\n") == 2
    (line,) = result.err.splitlines()
    assert "its tokenizer cannot read this text" in line


def test_generate_says_it_in_one_line(run, pair):
    result = run("generate", *pair, PANICKED)
    assert (result.code, result.text) == (2, "")
    assert len(result.err.splitlines()) == 1


def test_megabytes_of_prompt_are_refused_before_they_are_tokenized(run, tiny):
    result = run("generate", *tiny, stdin=b"The sea. " * 3_000_000)
    assert (result.code, result.text) == (2, "")
    (line,) = result.err.splitlines()
    assert "more than" in line
    assert "tokens for base, whose context holds 4096; shorten it" in line
