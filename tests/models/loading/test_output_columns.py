"""The output layer in the form that BLAS reads fastest says the same."""

from __future__ import annotations

from itertools import product
from typing import Any

import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import dequantize_model

from blendin_mlx.backend.mlx import mx
from blendin_mlx.tokens.embeddings import token_rows
from blendin_models.loading.adapters import sharing_copy
from blendin_models.loading.output_columns import _BLOCK as BLOCK
from blendin_models.loading.output_columns import (
    ColumnEmbedding,
    ColumnLinear,
    Columns,
    keep_output_columns,
    read_output_columns,
)
from tiny import network

SIZE = 301


def made(architecture: str, tied: bool) -> Any:
    return network(architecture, SIZE, seed=1, sharpness=2.0, tie_word_embeddings=tied)


def layers(net: Any) -> set[type]:
    return {type(layer) for _, layer in net.named_modules()}


@pytest.mark.parametrize(
    ("architecture", "tied"),
    [*product(("llama", "qwen3", "gemma3_text", "lfm2"), (False, True)), ("mamba2", False)],
)
def test_logits_are_the_same_and_nothing_is_kept_twice(architecture: str, tied: bool) -> None:
    plain, kept = made(architecture, tied), made(architecture, tied)
    keep_output_columns(kept)
    assert len(layers(kept) & {ColumnLinear, ColumnEmbedding}) == 1
    ids = mx.array([[0, 7, SIZE - 1, 7], [5, 5, 1, 300]])
    assert mx.allclose(kept(ids), plain(ids), atol=1e-5)
    assert token_rows(kept) == token_rows(plain) == SIZE
    sizes = [sum(a.size for _, a in tree_flatten(net.parameters())) for net in (plain, kept)]
    assert sizes[0] == sizes[1]


def test_a_bias_is_kept() -> None:
    layer = nn.Linear(8, 5)
    x = mx.random.normal((2, 3, 8))
    assert mx.allclose(ColumnLinear(layer)(x), layer(x), atol=1e-6)
    assert mx.array_equal(ColumnLinear(layer).weight, layer.weight)


def test_rows_of_an_embedding_are_its_columns() -> None:
    layer = nn.Embedding(9, 4)
    ids = mx.array([[8, 0, 3]])
    assert mx.array_equal(ColumnEmbedding(layer)(ids), layer(ids))
    assert mx.array_equal(ColumnEmbedding(layer).weight, layer.weight)


@pytest.mark.parametrize("bits", [4, 5, 8])
@pytest.mark.parametrize("tied", [False, True])
def test_quantized_weights_are_dequantized_on_the_way(bits: int, tied: bool) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "tie_word_embeddings": tied}
    plain, kept = (network("llama", 2 * BLOCK + 5, seed=1, sharpness=1.0, **sizes) for _ in "ab")
    for net in (plain, kept):
        nn.quantize(net, group_size=32, bits=bits)
    dequantize_model(plain)
    keep_output_columns(kept)
    read_output_columns(kept)
    dequantize_model(kept)
    layer, expected = (net.model.embed_tokens if tied else net.lm_head for net in (kept, plain))
    assert mx.array_equal(layer.weight, expected.weight)
    ids = mx.array([[0, 7, 2 * BLOCK + 4]])
    assert mx.allclose(kept(ids), plain(ids), atol=1e-5)


def test_weights_of_an_unusual_form_are_dequantized_too() -> None:
    layer = nn.QuantizedEmbedding(300, 64, group_size=32, bits=4, mode="mxfp4")
    kept = ColumnEmbedding(layer)
    kept.kept.read()
    assert mx.array_equal(kept.weight, mx.dequantize(layer.weight, layer.scales, mode="mxfp4"))


def test_it_says_the_same_before_its_weights_are_read_and_reads_none() -> None:
    layer = nn.Embedding(9, 4)
    kept, ids, x = ColumnEmbedding(layer), mx.array([8, 0, 3]), mx.ones((2, 4))
    before = kept.weight, kept(ids), kept.as_linear(x)
    assert not mx.any(kept.columns)
    kept.kept.read()
    assert mx.array_equal(kept.columns, layer.weight.T)
    for one, other in zip(before, (kept.weight, kept(ids), kept.as_linear(x)), strict=True):
        assert mx.allclose(one, other, atol=1e-6)


def test_copies_of_a_network_share_the_weights_once_read() -> None:
    net = made("llama", tied=True)
    keep_output_columns(net)
    other = sharing_copy(net)
    read_output_columns(net)
    read_output_columns(other)
    assert other.model.embed_tokens.columns is net.model.embed_tokens.columns
    assert mx.any(other.model.embed_tokens.columns)


@pytest.mark.parametrize(("rows", "width"), [(BLOCK, 24), (2 * BLOCK + 1, 7), (130, 5), (1, 3)])
def test_a_matrix_is_turned_whatever_its_size(rows: int, width: int) -> None:
    layer = nn.Embedding(rows, width)
    kept = Columns(layer)
    kept.read()
    assert mx.array_equal(kept.array, layer.weight.T)
