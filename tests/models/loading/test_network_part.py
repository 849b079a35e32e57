"""A network split over machines: what each part holds, and what cannot be split."""

from __future__ import annotations

import numpy as np
import pytest

from blendin_mlx.errors import PairError
from blendin_models.loading import network_part
from blendin_models.loading.loader import evaluate_weights
from blendin_models.loading.network_part import Place, open_part, part_of
from blendin_models.loading.preflight import bytes_of, fitted, inspect
from tiny_folders import write_model

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "base"
    return inspect(write_model(folder, 1, shape=HEADS))


@pytest.mark.parametrize("count", [2, 4])
def test_parts_hold_the_heads_once_and_the_embeddings_each(report, count):
    whole = fitted(report.folder)
    shared = sum(
        bytes_of(part.parameters()) for one in whole.layers for part in (one.self_attn, one.mlp)
    )
    parts = [part_of(report, Place(n, count), "base") for n in range(count)]
    assert {one.memory_bytes for one in parts} == {report.memory_bytes - shared + shared // count}
    for bits in (None, 8, 4):
        costs = {one.cache.bytes(64, bits) for one in parts}
        assert costs == {report.cache.bytes(64, bits) // count}


def test_what_is_loaded_is_what_was_counted_and_together_the_whole(report):
    whole = fitted(report.folder)
    parts = [open_part(report, Place(n, 2), "base") for n in range(2)]
    for n, part in enumerate(parts):
        evaluate_weights(part)
        assert bytes_of(part.parameters()) == part_of(report, Place(n, 2), "base").memory_bytes
    for layer, expected in enumerate(whole.layers):
        for name, axis in (("up_proj", 0), ("down_proj", 1)):
            halves = [np.array(part.layers[layer].mlp[name].weight) for part in parts]
            assert np.array_equal(np.concatenate(halves, axis), expected.mlp[name].weight)


def test_a_cache_without_heads_of_its_own_is_whole_on_each(report, monkeypatch):
    monkeypatch.setattr(network_part, "split", lambda *rest: {"num_heads"})
    assert part_of(report, Place(0, 2), "base").cache == report.cache


@pytest.mark.parametrize(
    ("shape", "architecture", "count", "said"),
    [
        ({}, "gemma3_text", 2, "mlx-lm does not split gemma3_text models"),
        ({}, "llama", 2, "over 2 machines, which must divide its n_kv_heads: 1"),
        (HEADS, "llama", 3, "Cannot shard the output of size 128 across 3 devices"),
    ],
    ids=["architecture", "heads", "width"],
)
def test_what_cannot_be_split_is_refused(tmp_path, shape, architecture, count, said):
    folder = write_model(tmp_path / "base", 1, architecture=architecture, shape=shape)
    with pytest.raises(PairError, match=said) as raised:
        part_of(inspect(folder), Place(0, count), "some model")
    assert str(raised.value).startswith("some model cannot be split over ")
    assert "\n" not in str(raised.value)
