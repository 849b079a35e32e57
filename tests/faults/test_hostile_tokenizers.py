"""Untrusted tokenizers: failures are one line, and affect no other text."""

from __future__ import annotations

import gc
import json

import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from blendin_mlx.tokens import encoder
from blendin_mlx.tokens.encoder import Encoder, TokenizingError, is_harmless
from blendin_models.errors import ModelError
from blendin_models.loading.loader import open_model
from blendin_models.loading.preflight import inspect
from tiny_folders import write_model

GROWS = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": "§"}, "content": "§§"}] * 50,
}
PANICS = {"type": "Split", "pattern": {"Regex": "(§+)+$"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PANICKED = "§" * 50 + "!"
HOSTILE = [
    ({"normalizer": GROWS}, "§"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [PANICS, BYTES]}}, PANICKED),
]


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model", 1)


def change(folder, **entries):
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.mark.parametrize(("rules", "text"), HOSTILE)
def test_a_text_that_a_tokenizer_fails_on_does_not_affect_others(folder, capfd, rules, text):
    before = open_model(folder).vocabulary.encode("the cat")
    change(folder, **rules)
    vocabulary = open_model(folder).vocabulary
    for _ in range(2):
        with pytest.raises(TokenizingError, match="model: its tokenizer cannot read this text: "):
            vocabulary.encode(text)
        assert vocabulary.encode("the cat") == before
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_that_fails_on_ordinary_text_is_refused_at_loading(folder, capfd):
    grows = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    change(folder, normalizer={"type": "Sequence", "normalizers": [grows] * 50})
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a usable tokenizer") as raised:
        open_model(folder)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "entries",
    [
        {"pre_tokenizer": {**PANICS, "pattern": {"Regex": "("}}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}},
        {"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]}},
        {"added_tokens": [{"id": "x"}]},
        {"decoder": {"type": "Nonesuch"}},
        {"post_processor": {"type": "TemplateProcessing", "single": [], "pair": []}},
    ],
)
@pytest.mark.parametrize("check", [inspect, open_model])
def test_a_damaged_tokenizer_is_one_line(folder, capfd, check, entries):
    change(folder, **entries)
    with pytest.raises(ModelError) as raised:
        check(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    assert capfd.readouterr() == ("", "")


def tokenizer(folder) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("name", ["gemma3", "llama3_1", "qwen3"])
def test_published_tokenizers_work_in_this_process(published_tokenizer, name):
    assert is_harmless(Tokenizer.from_file(str(published_tokenizer(name))))


def test_rules_that_may_take_forever_are_limited(folder):
    given = tokenizer(folder)
    assert is_harmless(given)
    given.pre_tokenizer = pre_tokenizers.Split(Regex("(a|a)*b"), "isolated")
    assert not is_harmless(given)
    given = tokenizer(folder)
    given.normalizer = normalizers.Replace(Regex("a"), "b")
    assert not is_harmless(given)


def test_a_child_process_gives_the_same_ids(folder):
    plain, careful = tokenizer(folder), tokenizer(folder)
    expression = Regex("(the|cat)+ ?")
    for one in (plain, careful):
        split = pre_tokenizers.Split(expression, "isolated")
        one.pre_tokenizer = pre_tokenizers.Sequence([split, one.pre_tokenizer])
    here = Encoder(plain, "here")
    here._child = None
    there = Encoder(careful, "there")
    assert there._child is not None
    for text in ("", "the cat sat", "漢字 👩🏽‍🚀\n\u2028 <|end|>", "é\ud7ff\x00"):
        for reading in ("plain", "marked", "whole"):
            assert there.encode(text, reading) == here.encode(text, reading)


def test_the_child_process_ends_with_its_tokenizer(folder):
    given = tokenizer(folder)
    given.normalizer = normalizers.Replace(Regex("a"), "b")
    there = Encoder(given, "model")
    there.encode("a")
    process = there._child._process._child
    assert process.poll() is None
    del there
    gc.collect()
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"_WALL_S": 0.0}, "it takes more than 0 s"), ({"_MEMORY": 1 << 20}, "memory|code")],
)
def test_the_child_process_is_limited_by_this_one_too(folder, monkeypatch, limits, reason):
    given = tokenizer(folder)
    given.normalizer = normalizers.Replace(Regex("a"), "b")
    for name, value in limits.items():
        monkeypatch.setattr(encoder, name, value)
    with pytest.raises(TokenizingError, match=reason):
        Encoder(given, "model").encode("a")


def test_a_child_process_that_was_killed_is_replaced(folder):
    given = tokenizer(folder)
    given.normalizer = normalizers.Replace(Regex("a"), "b")
    there = Encoder(given, "model")
    before = there.encode("the cat")
    there._child._process._child.kill()
    there._child._process._child.wait()
    assert there.encode("the cat") == before
