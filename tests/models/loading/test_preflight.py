"""A model folder is checked before any weight is read."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import is_cpu, mx
from blendin_mlx.model import LanguageModel
from blendin_mlx.reading.context import Context
from blendin_models.errors import ModelError
from blendin_models.loading.preflight import CacheCost, _cache_cost, inspect
from blendin_models.loading.safetensors_headers import read_header
from tiny import SHAPES, network
from tiny_folders import VOCABULARY, write_model

HEADER = {
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
}


def packed(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(22)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("architecture", sorted(SHAPES))
def test_a_good_model_is_never_refused(tmp_path, architecture, quantized):
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    folder = write_model(tmp_path / "model", 1)
    model = network(architecture, VOCABULARY, 1, 1.0)
    model.set_dtype(mx.float16)
    whole = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    config = {**SHAPES[architecture], "vocab_size": VOCABULARY}
    if quantized:
        nn.quantize(model, group_size=32, bits=4, class_predicate=_fits_groups)
        config["quantization"] = {"group_size": 32, "bits": 4}
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps(config))
    report = inspect(folder)
    assert report.stored_bytes == sum(array.nbytes for array in weights.values())
    assert report.memory_bytes == (2 * whole if is_cpu() else report.stored_bytes)
    assert report.cache.known


def _fits_groups(path, module):
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % 32 == 0


def test_memory_of_a_llama_model(tmp_path):
    report = inspect(write_model(tmp_path / "model", 1))
    assert (report.model_type, report.context_limit) == ("llama", 4096)
    assert report.has_chat_template
    # 2 layers, keys and values, 1 head of 32, 4 bytes each
    # quantized: plus a scale and a bias for each group of 32
    quantized = ((8, 2 * 2 * (32 + 8)), (4, 2 * 2 * (16 + 8)))
    assert report.cache == CacheCost(per_token=2 * 2 * 32 * 4, quantized=quantized)
    assert not inspect(write_model(tmp_path / "raw", 1, chat_template=False)).has_chat_template


@pytest.mark.parametrize("kv_bits", [None, 8, 4])
@pytest.mark.parametrize("architecture", sorted(SHAPES))
def test_a_cache_has_the_predicted_size(architecture, kv_bits):
    """The number of tokens is a multiple of the step that caches grow by, so no room is spare."""
    made = network(architecture, VOCABULARY, 1, 1.0)
    cost = _cache_cost(made)
    context = Context(LanguageModel(made, None), kv_bits=kv_bits)
    if kv_bits and not cost.quantized:
        with pytest.raises(ValueError, match="kv_bits cannot be used"):
            context.prefill([1])
        return
    context.prefill([7] * 512)
    assert cost.bytes(512, kv_bits) == context.nbytes


def test_a_window_stops_growing():
    assert CacheCost(10, ((4, 3),), 7).bytes(100) == 1000 + 12 + 7


@given(st.data())
def test_a_changed_file_is_read_the_same_way_or_refused_in_one_line(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("m", numbered=True) / "model.safetensors"
    good = packed(HEADER)
    cut = data.draw(st.integers(0, len(good)))
    new = data.draw(st.binary(max_size=12))
    file.write_bytes(good[:cut] + new + good[cut + data.draw(st.integers(0, 12)) :])
    told, held = _read(file)
    assert held in (None, 22)
    assert (held is None) == (str(file) in told)
    assert "\n" not in told


def _read(file):
    """Return the message of a refusal or, if there is none, the bytes of weights in the file."""
    try:
        return "", sum(tensor.end - tensor.begin for tensor in read_header(file).values())
    except ModelError as error:
        return str(error), None
