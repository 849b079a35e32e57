"""The ids of a model folder are those of its tokenizer.json, whatever class its settings name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from blendin_models.loading import own_tokenizer
from blendin_models.loading.own_tokenizer import BATTERY, TokenIds, load_tokenizer
from tiny_folders import write_model

THREES = r"\p{N}{1,3}|[^\p{N}]+"


@pytest.fixture
def folder(tmp_path):
    """Write a model whose tokenizer groups digits by threes."""
    folder = write_model(tmp_path / "model", 1)
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    split = pre_tokenizers.Split(Regex(THREES), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    content = json.loads(tokenizer.to_str())
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    for left, right in (("2", "0"), ("20", "2"), ("202", "3")):  # the last only within four digits
        merges.append([left, right])
        vocabulary[left + right] = len(vocabulary)
    file.write_text(json.dumps(content))
    return folder


def change(folder, file, **entries):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def wrong(folder, texts) -> list[str]:
    """Return the texts that are encoded otherwise than by the file's rules."""
    ours = load_tokenizer(folder).backend_tokenizer
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [text for text in texts if ours.encode(text).ids != theirs.encode(text).ids]


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma3_text", "mistral"])
@pytest.mark.parametrize(
    "tokenizer_class",
    ["LlamaTokenizer", "Qwen2Tokenizer", "GemmaTokenizer", "GPT2Tokenizer", "Nonesuch", None],
)
def test_the_file_decides(folder, model_type, tokenizer_class):
    change(folder, "config.json", model_type=model_type)
    change(folder, "tokenizer_config.json", tokenizer_class=tokenizer_class)
    assert wrong(folder, ["2023", *BATTERY]) == []


def test_transformers_alone_replaces_the_rules(folder):
    """If this fails because transformers reads the file as it is, `restore` may be removed."""
    change(folder, "config.json", model_type="qwen2")
    change(folder, "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer")
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert AutoTokenizer.from_pretrained(folder).encode("2023") != file.encode("2023").ids


@pytest.mark.parametrize("settings", [{"add_prefix_space": True}, {"legacy": True}])
def test_settings_do_not_change_rules(folder, settings):
    change(folder, "tokenizer_config.json", **settings)
    assert wrong(folder, BATTERY) == []


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma3_text"])
def test_the_file_decides_without_settings_too(folder, model_type):
    (folder / "tokenizer_config.json").unlink()
    change(folder, "config.json", model_type=model_type)
    assert wrong(folder, ["2023", *BATTERY]) == []


def test_special_tokens_come_from_the_settings(folder):
    tokenizer = load_tokenizer(folder, eos_token_ids=[7])
    assert tokenizer.eos_token_id == 1
    assert tokenizer.eos_token_ids == {1, 7}
    assert tokenizer.chat_template


def test_rules_behind_the_vocabulary_decide_too(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({"model": content.pop("model"), **content}))
    (folder / "tokenizer_config.json").unlink()
    change(folder, "config.json", model_type="qwen2")
    assert wrong(folder, ["2023", *BATTERY]) == []


def test_the_vocabulary_is_parsed_by_the_tokenizer_alone(folder, monkeypatch):
    """A vocabulary has megabytes; python's json would take as long again, each time."""
    parsed = []
    load = json.load
    monkeypatch.setattr(json, "load", lambda file: parsed.append(file.name) or load(file))
    whole = own_tokenizer.load_json
    monkeypatch.setattr(
        own_tokenizer, "load_json", lambda path: parsed.append(str(path)) or whole(path)
    )
    load_tokenizer(folder)
    assert any(name.endswith("tokenizer_config.json") for name in parsed)
    assert not any(name.endswith("tokenizer.json") for name in parsed)


def test_ids_looked_up_one_by_one_are_the_dictionary_s(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<think>", "</think>"])
    assert dict(TokenIds(tokenizer)) == tokenizer.get_vocab(with_added_tokens=True)
    assert len(TokenIds(tokenizer)) == len(tokenizer.get_vocab(with_added_tokens=True))
    assert "<nonesuch>" not in TokenIds(tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))
    loaded = load_tokenizer(folder)
    assert loaded.think_start_tokens == tuple(loaded.encode("<think>"))
    assert isinstance(loaded.get_vocab(), dict)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_tokens_that_other_files_add_are_known(folder, name):
    added = {"added_tokens.json": {"<|new|>": 5000}}
    (folder / name).write_text(json.dumps(added.get(name, {"mask_token": "<|new|>"})))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("<|new|>") == [tokenizer.convert_tokens_to_ids("<|new|>")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "model"), JSON), JSON)
def test_what_stands_before_the_model_is_read_as_json_reads_it(members, model):
    for indent in (None, 2):
        text = json.dumps({**members, "model": model, "after": 1}, indent=indent)
        assert own_tokenizer._before_the_model(text) == members


@given((st.text() | JSON.map(json.dumps)).filter(lambda text: '"model"' not in text))
def test_what_has_no_model_is_refused_not_read_on(text):
    with pytest.raises((ValueError, RecursionError)):
        own_tokenizer._before_the_model(text)
