"""Weights dequantized by whole arrays are those that mlx-lm gives."""

from __future__ import annotations

from typing import Any

import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import SwitchLinear

from blendin_mlx.backend.mlx import mx
from blendin_models.loading import dequantize
from blendin_models.loading.dequantize import dequantize_network

BITS = (2, 3, 4, 5, 6, 8)


class Network(nn.Module):
    """One layer of each kind that can be quantized, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(300, 256)
        self.layers = [nn.Linear(256, 128), nn.Linear(128, 256, bias=False)]
        self.experts = SwitchLinear(256, 64, num_experts=3, bias=True)
        self.norm = nn.RMSNorm(256)


def quantized(bits: int, group_size: int, mode: str = "affine", dtype: Any = mx.float32) -> Network:
    mx.random.seed(bits)
    network = Network()
    nn.quantize(network, group_size=group_size, bits=bits, mode=mode)
    network.set_dtype(dtype)
    mx.eval(network.parameters())
    return network


def parameters(network: Network) -> dict[str, mx.array]:
    return dict(tree_flatten(network.parameters()))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize(
    ("bits", "group_size", "mode"),
    [
        *(
            (bits, group_size, "affine")
            for bits in (2, 3, 4, 5, 6, 8)
            for group_size in (32, 64, 128)
        ),
        (4, 32, "mxfp4"),
    ],
)
def test_every_layer_has_mlx_lm_s_weights(
    bits: int, group_size: int, mode: str, dtype: Any
) -> None:
    from mlx_lm.utils import dequantize_model

    ours, theirs = (quantized(bits, group_size, mode, dtype) for _ in range(2))
    dequantize_network(ours)
    dequantize_model(theirs)
    found, expected = parameters(ours), parameters(theirs)
    assert found.keys() == expected.keys()
    assert [type(one) for _, one in ours.named_modules()] == [
        type(one) for _, one in theirs.named_modules()
    ]
    for name, weights in expected.items():
        assert (found[name].shape, found[name].dtype) == (weights.shape, weights.dtype)
        # Other processors may round once where these two operations round twice.
        off = 1e-6 if dtype == mx.float32 else 1e-2
        assert mx.allclose(found[name], weights, rtol=off, atol=off)


@pytest.mark.parametrize("bits", BITS)
def test_the_usual_ones_are_not_left_to_mlx_lm(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    done = list[tuple[int, ...]]()
    ours = dequantize.dequantized
    monkeypatch.setattr(
        dequantize, "dequantized", lambda layer: done.append(layer.weight.shape) or ours(layer)
    )
    dequantize_network(quantized(bits, 64))
    assert len(done) == 4
