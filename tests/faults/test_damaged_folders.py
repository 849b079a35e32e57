"""Damaged model folders: refused before a weight is read, in one line that names the file."""

from __future__ import annotations

import json
import struct

import pytest

from blendin_models.errors import ModelError
from blendin_models.preflight import inspect
from tiny_folders import write_model

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


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


def negative(entry):
    entry["data_offsets"][0] = -4


def widened(entry):
    entry["shape"][0] += 1


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda good: good[: len(good) // 2], "is cut: "),
        (lambda good: b"", "is empty"),
        (lambda good: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (lambda good: b"\xff" * 8 + good[8:], "its header does not fit"),
        (lambda good: good[:8] + b"[" + good[9:], "no valid JSON"),
        (lambda good: good + b"x", "1 bytes after its weights"),
        (lambda good: with_offsets(good, shifted), "overlaps or leaves a gap"),
        (lambda good: with_offsets(good, negative), "wrong entry"),
        (lambda good: with_offsets(good, widened), "wrong entry"),
    ],
)
def test_damaged_weights(folder, damage, named):
    file = folder / WEIGHTS
    file.write_bytes(damage(file.read_bytes()))
    line = refusal(folder)
    assert named in line
    assert WEIGHTS in line


@pytest.mark.parametrize(
    ("entries", "named"),
    [({"hidden_size": 64}, "does not fit the weights"), ({"model_type": "nonesuch"}, "'nonesuch'")],
)
def test_config_that_does_not_fit(folder, entries, named):
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    assert named in refusal(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model": 1}'])
def test_tokenizer_that_cannot_be_read(folder, content):
    (folder / TOKENIZER).write_text(content)
    assert "tokenizer.json is no valid tokenizer" in refusal(folder)


@pytest.mark.parametrize(
    ("places", "named"),
    [
        ({"x": "model-2.safetensors"}, "lacks 'model-2.safetensors'"),
        ({"x": WEIGHTS}, "lacks 'x'"),
        ([], "no valid index"),
    ],
)
def test_index_that_promises_more(folder, places, named):
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))
    assert named in refusal(folder)


@pytest.mark.parametrize("other", ["pytorch_model.bin", "weights.npz", "model.gguf"])
def test_other_kinds_of_weights(folder, other):
    (folder / WEIGHTS).rename(folder / other)
    assert "lacks model*.safetensors" in refusal(folder)
