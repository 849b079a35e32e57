"""Each block type, repacked for MLX, has the values that the gguf package reads from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from blendin_mlx.backend.mlx import mx
from blendin_models.gguf.blocks import bits_of, floats, quantized
from blendin_models.gguf.file import Tensor

Q = GGMLQuantizationType
# Where the float16 factors of a block are; the other bytes may hold anything.
EXACT = {
    Q.Q4_0: [0],
    Q.Q4_1: [0, 2],
    Q.Q5_0: [0],
    Q.Q5_1: [0, 2],
    Q.Q8_0: [0],
    Q.Q4_K: [0, 2],
    Q.Q5_K: [0, 2],
}
REQUANTIZED = {Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q6_K: [208], Q.IQ4_NL: [0], Q.IQ4_XS: [0]}
ROWS, COLUMNS = 6, 512


def random_tensor(kind: GGMLQuantizationType, factors: list[int], scale: float = 1.0) -> Tensor:
    rng = np.random.default_rng(int(kind))
    block, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // block, size), dtype=np.uint8)
    for start in factors:
        values = (scale * rng.normal(0, 0.02, (len(blocks), 1))).astype(np.float16)
        blocks[:, start : start + 2] = values.view(np.uint8)
    return Tensor("t", kind, (ROWS, COLUMNS), blocks.reshape(-1))


def as_mlx_reads(tensor: Tensor) -> np.ndarray[Any, Any]:
    matrix = quantized(tensor)
    assert matrix.bits == bits_of(tensor.type)
    values = mx.dequantize(
        mx.array(matrix.weight),
        mx.array(matrix.scales),
        mx.array(matrix.biases),
        group_size=32,
        bits=matrix.bits,
    )
    assert values.dtype == mx.float32
    return np.array(values)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e5], ids=["usual", "subnormal", "large"])
@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.name)
def test_affine_blocks_keep_their_values(kind: GGMLQuantizationType, scale: float) -> None:
    tensor = random_tensor(kind, EXACT[kind], scale)
    expected = dequantize(tensor.rows, kind)
    # Exact but for the last bit of a float32: scale * q + bias is a sum of two terms.
    step = np.abs(expected).reshape(ROWS, -1, 32).max(-1, keepdims=True)
    error = np.abs(as_mlx_reads(tensor) - expected).reshape(ROWS, -1, 32)
    assert (error <= 2**-22 * step).all()


@pytest.mark.parametrize("kind", REQUANTIZED, ids=lambda kind: kind.name)
def test_other_blocks_are_off_by_half_a_step_of_8_bits_at_most(kind: GGMLQuantizationType) -> None:
    tensor = random_tensor(kind, REQUANTIZED[kind])
    expected = dequantize(tensor.rows, kind).reshape(ROWS, -1, 32)
    # mx.quantize moves a group's range so that zero stays zero; up to one step is its bound.
    step = (expected.max(-1, keepdims=True) - expected.min(-1, keepdims=True)) / 255
    error = np.abs(as_mlx_reads(tensor).reshape(expected.shape) - expected)
    assert (error <= 1.05 * step).all()
    assert error.mean() <= 0.4 * step.mean()


@pytest.mark.parametrize("kind", [Q.F32, Q.F16, Q.BF16], ids=lambda kind: kind.name)
def test_unquantized_values_are_read_exactly(kind: GGMLQuantizationType) -> None:
    values = np.random.default_rng(1).normal(0, 1, (3, 5)).astype(np.float16).astype(np.float32)
    if kind == Q.BF16:
        stored = (values.view(np.uint32) >> 16).astype(np.uint16)
        values = (stored.astype(np.uint32) << 16).view(np.float32)
    else:
        stored = values.astype(np.float16 if kind == Q.F16 else np.float32)
    tensor = Tensor("t", kind, (3, 5), stored.view(np.uint8).reshape(-1))
    assert np.array_equal(floats(tensor), values)
    vector = Tensor("t", kind, (15,), tensor.data)
    assert np.array_equal(floats(vector), values.reshape(-1))
