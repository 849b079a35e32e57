"""Damaged model folders are refused before a weight is read, in one line that names the file."""

from __future__ import annotations

import json
import re
import struct

import pytest

from blendin_models.errors import ModelError
from blendin_models.loading.config_json import check_counts
from blendin_models.loading.loader import open_model
from blendin_models.loading.preflight import inspect
from blendin_models.loading.safetensors_headers import read_folder
from tiny_folders import write_model

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
GENERATION = "generation_config.json"


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model", 1)


def refusal(folder):
    with pytest.raises(ModelError) as raised:
        inspect(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    return str(raised.value)


def with_offsets(good: bytes, change) -> bytes:
    length = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + length])
    change(header[sorted(name for name in header if name != "__metadata__")[0]])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + length :]


def shifted(entry):
    entry["data_offsets"] = [place + 4 for place in entry["data_offsets"]]


HEADER = b'{"x": {"dtype": "F32", "shape": [20000000], "data_offsets": [0, 80000000]}}'
PROMISED = len(HEADER).to_bytes(8, "little") + HEADER  # and not one weight


def negative(entry):
    entry["data_offsets"][0] = -4


def widened(entry):
    entry["shape"][0] += 1


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda good: good[: len(good) // 2], "is truncated: "),
        (lambda good: PROMISED, "is truncated: 80.0 MB of its weights are missing"),
        (lambda good: b"", "is empty"),
        (lambda good: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (lambda good: b"\xff" * 8 + good[8:], "its header does not fit"),
        (lambda good: good[:8] + b"[" + good[9:], "not valid JSON"),
        (lambda good: good + b"x", "1 bytes after its weights"),
        (lambda good: with_offsets(good, shifted), "overlaps or leaves a gap"),
        (lambda good: with_offsets(good, negative), "wrong entry"),
        (lambda good: with_offsets(good, widened), "wrong entry"),
    ],
)
def test_damaged_weights_are_named(folder, damage, named):
    file = folder / WEIGHTS
    file.write_bytes(damage(file.read_bytes()))
    line = refusal(folder)
    assert named in line
    assert WEIGHTS in line


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"hidden_size": 64}, "does not fit the weights"),
        ({"num_hidden_layers": 10**12}, "does not fit the weights: num_hidden_layers is 1000"),
        ({"n_layer": 10**9}, "does not fit the weights: n_layer is 1000000000"),
        ({"text_config": {"n_layers": 10**9}}, "does not fit the weights: n_layers is 1000000000"),
        ({"num_experts": 10**9}, "does not fit the weights: num_experts is 1000000000"),
        ({"n_embd": 10**9, "num_loops": 10**9}, "does not fit the weights: num_loops is 1000000"),
        ({"model_type": "nonesuch"}, "'nonesuch'"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_named(folder, entries, named):
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    assert named in refusal(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "n_ctx": 64, "n_embd": 32, "n_head": 2, "n_positions": 64},
        {"model_type": "llama", "num_experts": 8, "max_window_layers": 500},
    ],
)
def test_usual_counts_are_accepted(folder, config):
    given = {**json.loads((folder / CONFIG).read_text()), **config}
    check_counts(folder / CONFIG, given, read_folder(folder))


@pytest.mark.parametrize("key", ["n_embd", "n_head", "n_layer", "n_positions"])
def test_absurd_counts_of_any_architecture_are_refused(folder, key):
    sizes = {"n_ctx": 64, "n_embd": 32, "n_head": 2, "n_positions": 64, "n_layer": 2}
    made = {"model_type": "gpt2", "layer_norm_epsilon": 1e-5, "vocab_size": 300}
    (folder / CONFIG).write_text(json.dumps({**made, **sizes, key: 10**12}))
    assert "does not fit the weights" in refusal(folder)


def test_a_config_of_megabytes_is_not_read(folder):
    with (folder / CONFIG).open("ab") as file:
        file.truncate(20_000_000)
    assert "it has 20000000 bytes" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "entries", "named"),
    [
        (CONFIG, {"text_config": [1]}, "its text_config is not an object"),
        (CONFIG, {"text_config": "x"}, "its text_config is not an object"),
        (CONFIG, {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        (CONFIG, {"max_position_embeddings": -5}, "max_position_embeddings is -5"),
        (CONFIG, {"text_config": {"max_seq_len": -5}}, "max_seq_len is -5"),
        (CONFIG, {"eos_token_id": "zzz"}, "eos_token_id is 'zzz'"),
        (CONFIG, {"eos_token_id": [1, None]}, "eos_token_id is [1, None]"),
        (GENERATION, {"eos_token_id": "zzz"}, "eos_token_id is 'zzz'"),
        (GENERATION, {"eos_token_id": -1}, "eos_token_id is -1"),
    ],
)
@pytest.mark.parametrize("check", [inspect, open_model])
def test_a_config_with_invalid_values_is_named(folder, check, file, entries, named):
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **entries}))
    with pytest.raises(ModelError, match=re.escape(named)) as raised:
        check(folder)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("file", [CONFIG, GENERATION])
@pytest.mark.parametrize("content", ["[" * 200_000, "[]", "{", "3"])
def test_a_file_that_is_not_a_config_is_refused(folder, file, content):
    (folder / file).write_text(content)
    assert file in refusal(folder)


@pytest.mark.parametrize(
    ("file", "content", "has_one"),
    [
        ("chat_template.jinja", "{{ messages }}", True),
        ("chat_template.jinja", "", False),
        ("chat_template.json", '{"chat_template": "{{ messages }}"}', False),
        ("tokenizer_config.json", '{"chat_template": ""}', False),
        ("tokenizer_config.json", '{"chat_template": [{"name": "t", "template": "x"}]}', False),
        (
            "tokenizer_config.json",
            '{"chat_template": [{"name": "default", "template": "x"}]}',
            True,
        ),
    ],
)
def test_a_chat_template_is_found_where_the_tokenizer_finds_it(tmp_path, file, content, has_one):
    folder = write_model(tmp_path / "model", 1, chat_template=False)
    settings = folder / "tokenizer_config.json"
    given = json.loads(content) if file == settings.name else {}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **given}))
    if file != settings.name:
        (folder / file).write_text(content)
    assert inspect(folder).has_chat_template == has_one
    assert (open_model(folder).chat_template is not None) == has_one


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model": 1}'])
def test_a_tokenizer_that_cannot_be_read_is_named(folder, content):
    (folder / TOKENIZER).write_text(content)
    assert "tokenizer.json is not a valid tokenizer" in refusal(folder)


@pytest.mark.parametrize(
    ("places", "named"),
    [
        ({"x": "model-2.safetensors"}, "lacks 'model-2.safetensors'"),
        ({"x": WEIGHTS}, "lacks 'x'"),
        ([], "not a valid index"),
    ],
)
def test_an_index_that_does_not_match_is_refused(folder, places, named):
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))
    assert named in refusal(folder)


@pytest.mark.parametrize("other", ["pytorch_model.bin", "weights.npz", "model.gguf"])
def test_other_kinds_of_weights_are_refused(folder, other):
    (folder / WEIGHTS).rename(folder / other)
    assert "lacks model*.safetensors" in refusal(folder)


@pytest.mark.parametrize("file", [CONFIG, "tokenizer_config.json", f"{WEIGHTS}.index.json"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b"[" * 200_000, "nests too deeply"),
        (b"{\xff}", "is not UTF-8 text: byte 1"),
    ],
)
def test_all_json_files_are_read_by_the_same_rules(folder, file, content, why):
    (folder / file).write_bytes(content)
    assert f"{file} is not valid JSON: " in (line := refusal(folder))
    assert why in line
