"""The output layer in the form that BLAS reads fastest says the same."""

from __future__ import annotations

from itertools import product
from typing import Any

import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from blendin_mlx.backend.mlx import mx
from blendin_mlx.tokens.embeddings import token_rows
from blendin_models.loading.output_columns import (
    ColumnEmbedding,
    ColumnLinear,
    evaluate_blocks,
    keep_output_columns,
    transposed,
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


def test_quantized_layers_stay_as_they_are() -> None:
    net = network("llama", 320, seed=1, sharpness=1.0, hidden_size=64, intermediate_size=64)
    nn.quantize(net, group_size=32, bits=8)
    keep_output_columns(net)
    assert not layers(net) & {ColumnLinear, ColumnEmbedding}


@pytest.mark.parametrize(("rows", "width"), [(256, 24), (1280, 7), (130, 5), (1, 3)])
def test_a_matrix_is_turned_whatever_its_size(rows: int, width: int) -> None:
    matrix = mx.arange(rows * width).reshape(rows, width).astype(mx.float32)
    _, turned = transposed(matrix)
    assert turned.shape == (width, rows)
    assert mx.array_equal(turned, matrix.T)


def test_the_copy_on_the_way_is_not_kept() -> None:
    layer = nn.Embedding(256, 8)
    model = nn.Sequential(nn.Linear(8, 8))
    model.embed_tokens = layer
    keep_output_columns(model)
    evaluate_blocks(model)
    held = [name for name, _ in tree_flatten(dict(model.embed_tokens))]
    assert held == ["columns"]
    assert mx.array_equal(model.embed_tokens.weight, layer.weight)
