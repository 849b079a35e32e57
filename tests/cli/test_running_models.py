"""Models that go wrong while they run: what they write, their vocabularies, limits and caches."""

from __future__ import annotations

import json
import math

import pytest

from blendin_mlx.backend.mlx import mx
from chains import WORDS, write_chain
from commands import Result
from running import pair
from tiny_folders import write_model

TEXT = b"".join(WORDS)


def the_line(ended: Result, code: int) -> str:
    """The one line that an error is, after what was answered."""
    (line,) = ended.err.splitlines()
    assert ended.code == code
    return line


@pytest.fixture
def good(tmp_path):
    return write_chain(tmp_path / "good", WORDS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_base_that_overflows_is_named_with_the_position(run, tmp_path, good, value):
    bad = write_chain(tmp_path / "bad", WORDS, spoilt={b" three": value})
    ended = run("generate", *pair(bad, good), "hi")
    said = the_line(ended, 1)
    assert said.startswith("blendin: bad produced logits that are not finite at token 3 ")
    assert ended.out == b" one two three\n"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_so_is_a_guide_once_it_is_asked(run, tmp_path, value):
    base = write_chain(tmp_path / "base", WORDS, unsure_after=[b" five"])
    bad = write_chain(tmp_path / "bad", WORDS, spoilt={b" five": value})
    ended = run("generate", *pair(base, bad), "hi")
    said = the_line(ended, 1)
    assert said.startswith("blendin: bad produced logits that are not finite at token 5 ")
    assert ended.out == b" one two three four five\n"  # the message begins a line


@pytest.mark.parametrize("which", ["base", "guide"])
@pytest.mark.parametrize("stops", [[1], [1, 2]])
def test_weights_that_are_all_zero(run, tmp_path, which, stops):
    folders = {
        "base": write_chain(tmp_path / "base", WORDS, unsure_after=[b" two"]),
        "guide": write_chain(tmp_path / "guide", WORDS),
    }
    weights = folders[which] / "model.safetensors"
    zeros = {name: mx.zeros_like(array) for name, array in mx.load(str(weights)).items()}
    mx.save_safetensors(str(weights), zeros)
    config = folders[which] / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token_id": stops}))
    said = the_line(run("generate", *pair(*folders.values()), "hi"), 1)
    assert said.startswith(f"blendin: {which} produced the same logit for every token at token ")


def test_ids_beyond_the_tokenizer_are_never_taken(run, tmp_path, good):
    """The padding rows of these models have the highest logits of all."""
    padded = write_chain(tmp_path / "padded", WORDS, padding=40)
    for models in (pair(padded, good), pair(good, padded)):
        ended = run("generate", "-q", *models, "--tau", "1", "hi")
        assert (ended.code, ended.out, ended.err) == (0, TEXT + b"\n", "")


def test_vocabularies_that_differ_by_padding_are_equal(run, tmp_path, good):
    padded = write_chain(tmp_path / "padded", WORDS, padding=40)
    ended = run("models", "check", "--json", padded, good)
    found = json.loads(ended.out)
    assert (found["vocabularies"], found["shared_tokens"]) == ("padded", 1.0)
    # Asked everywhere, the guide has all its mass on tokens that the base has too.
    answer = run("generate", "-q", "--json", *pair(padded, good), "--tau", "1", "hi")
    assert json.loads(answer.out)["text"].encode() == TEXT


def test_no_chat_template_says_what_to_pass(run, tmp_path, good):
    raw = write_chain(tmp_path / "raw", WORDS, chat_template=False)
    said = the_line(run("generate", *pair(good, raw), "hi"), 4)
    assert said.startswith("blendin: raw has no chat template")
    assert "--aligned-template FILE" in said


@pytest.mark.parametrize("short", ["base", "aligned"])
def test_a_prompt_longer_than_a_context_is_refused(run, tmp_path, good, short):
    small = write_chain(tmp_path / "small", WORDS, max_position_embeddings=64)
    models = pair(small, good) if short == "base" else pair(good, small)
    ended = run("generate", *models, stdin=b"word " * 40)
    assert "tokens for small, whose context holds 64; shorten it" in the_line(ended, 2)
    assert ended.out == b""


@pytest.mark.parametrize("short", ["base", "aligned"])
def test_an_answer_ends_where_a_context_is_full(run, tmp_path, short):
    around = {"end": WORDS[0]}
    large = write_chain(tmp_path / "large", WORDS, **around)
    small = write_chain(tmp_path / "small", WORDS, **around, max_position_embeddings=160)
    models = pair(small, large) if short == "base" else pair(large, small)
    ended = run("generate", "--json", "-q", *models, "--tau", "1", "-m", "400", "hi")
    answer = json.loads(ended.out)
    if short == "base":
        assert answer["finish_reason"] == "context"
    assert len(answer["token_ids"]) < 160
    assert (TEXT * 60).startswith(answer["text"].encode())


def test_too_little_memory_has_the_figures_and_what_would_fit(run, tmp_path, good):
    endless = write_chain(tmp_path / "endless", WORDS, max_position_embeddings=2**40)
    asked = ("generate", "-q", *pair(endless, good), "--max-tokens", "10000000000", "hi")
    said = the_line(run(*asked), 5)
    assert "GB and their caches " in said
    assert "GB for 10000004096 tokens, and " in said
    assert said.endswith("tokens would fit, or --force")
    forced = run(*asked, "--force")
    assert (forced.code, forced.out, forced.err) == (0, TEXT + b"\n", "")


UNREWINDABLE = [
    {"architecture": "mamba2", "max_position_embeddings": 4096},
    {"architecture": "gemma3_text", "sliding_window": 16},  # full before the answer begins
]


@pytest.mark.parametrize("config", UNREWINDABLE, ids=["state space", "rotating"])
def test_a_cache_that_cannot_be_rewound_changes_no_answer(run, tmp_path, config):
    base = write_model(tmp_path / "base", 1, chat_template=False, **config)
    models = pair(base, write_model(tmp_path / "aligned", 2))
    asked = ("generate", *models, "-m", "40", "--tau", ".99", "hi", "--draft")
    plain = run(*asked, "off")
    drafted = run(*asked, "guide", "--num-draft-tokens", "3")
    assert len(plain.out) > 40
    assert drafted.out == plain.out
    notice = "drafting is off: the cache of base cannot be rewound\n"
    assert notice in drafted.err
    assert notice not in plain.err


@pytest.mark.parametrize("config", UNREWINDABLE, ids=["state space", "rotating"])
@pytest.mark.parametrize("which", ["base", "aligned"])
def test_nor_any_later_answer_of_a_conversation(run, tmp_path, config, which):
    """The same turn once with the caches of the turn before, once without."""
    folders = {
        name: write_model(tmp_path / name, n, **(config if name == which else {}))
        for n, name in enumerate(("base", "aligned"))
    }
    chat = ("chat", *pair(*folders.values()), "-qm", "24", "--tau", ".99")
    kept = tmp_path / "kept.json"
    lines = f"first\n/save {kept}\nsecond\n".encode()
    went_on = run(*chat, stdin=lines)
    anew = run(*chat, "--resume", kept, stdin=b"second\n")
    assert (went_on.code, anew.code) == (0, 0)
    assert went_on.out.splitlines()[1:] == anew.out.splitlines()
    assert len(anew.out) > 24
