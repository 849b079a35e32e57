"""Convert weights from GGUF's blocks to MLX's affine quantization, without loss where possible.

MLX stores groups of 32 values as `scale * q + bias`, q an unsigned integer of 4, 5 or 8 bits.
Blocks of type Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K and Q5_K have the same form, so they are repacked,
not requantized. Other types are dequantized by the `gguf` package and quantized at 8 bits.

Scales are float32 throughout. Float16 would hold those of Q4_0 to Q8_0, but `mx.dequantize`
computes in the type of the scales, and float16 is off by a tenth of a quantization step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from blendin_mlx.backend.mlx import mx

from .file import Bytes, Tensor

GROUP_SIZE = 32
_FALLBACK_BITS = 8

Floats = npt.NDArray[np.float32]
_Affine = tuple[Bytes, Floats, Floats]


@dataclass(frozen=True)
class Quantized:
    """A matrix as MLX's affine groups of 32: `scale * q + bias`.

    `weight` is (rows, columns * bits / 32) uint32, `scales` and `biases` (rows, columns / 32).
    """

    bits: int
    weight: npt.NDArray[np.uint32]
    scales: Floats
    biases: Floats


def bits_of(kind: GGMLQuantizationType) -> int:
    """Return the bits per value of `quantized` for a matrix of this block type."""
    return _AFFINE[kind][0] if kind in _AFFINE else _FALLBACK_BITS


def quantized(tensor: Tensor) -> Quantized:
    """Return the matrix `tensor` in MLX's groups: the same values if affine, else 8 bits.

    Its last dimension must be divisible by 32.

    Raises:
        NotImplementedError: the `gguf` package cannot read the block type.
    """
    if tensor.type not in _AFFINE:
        return _requantized(tensor)
    bits, unpack = _AFFINE[tensor.type]
    _, block_bytes = GGML_QUANT_SIZES[tensor.type]
    with np.errstate(all="ignore"):  # damaged scales; the writer refuses what is not finite
        values, scales, biases = unpack(tensor.data.reshape(-1, block_bytes))
    rows = tensor.shape[0]
    weight = _packed(values, bits).view(np.uint32).reshape(rows, -1)
    return Quantized(bits, weight, scales.reshape(rows, -1), biases.reshape(rows, -1))


def floats(tensor: Tensor) -> Floats:
    """Return all values of `tensor` as float32, in its shape.

    Raises:
        NotImplementedError: the `gguf` package cannot read the block type.
    """
    with np.errstate(all="ignore"):
        values = dequantize(tensor.rows, tensor.type)
    return np.ascontiguousarray(values, dtype=np.float32).reshape(tensor.shape)


def _requantized(tensor: Tensor) -> Quantized:
    weight, scales, biases = mx.quantize(
        mx.array(floats(tensor)), group_size=GROUP_SIZE, bits=_FALLBACK_BITS
    )
    return Quantized(_FALLBACK_BITS, np.array(weight), np.array(scales), np.array(biases))


def _packed(values: Bytes, bits: int) -> Bytes:
    """Pack values of `bits` bits into a stream of bytes, the first value in the lowest bits."""
    if bits == 8:
        return np.ascontiguousarray(values).reshape(-1)
    if bits == 4:
        pairs = values.reshape(-1, 2)
        packed: Bytes = pairs[:, 0] | pairs[:, 1] << np.uint8(4)
        return packed
    # Eight values of five bits fill five bytes.
    eights = values.reshape(-1, 8)
    stream = np.zeros(len(eights), np.dtype("<u8"))
    for index in range(8):
        stream |= eights[:, index].astype(np.uint64) << np.uint64(bits * index)
    return np.ascontiguousarray(stream[:, None].view(np.uint8)[:, :bits]).reshape(-1)


# Each function below takes blocks (n, bytes of a block) and returns the quantized values
# (groups, 32), their scales and their biases (groups, 1).


def _half(blocks: Bytes, start: int) -> Floats:
    """Return the float16 at byte `start` of every block, as float32 (n, 1)."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """Unpack nibbles: 16 bytes hold values 0 to 15 in the low halves, 16 to 31 in the high ones."""
    return np.concatenate([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)


def _fifth_bits(packed: Bytes) -> Bytes:
    """Unpack the fifth bits of 32 values from 4 bytes, lowest bit first; returns 0 or 16."""
    bits: Bytes = np.unpackbits(packed, axis=-1, bitorder="little") << np.uint8(4)
    return bits


def _q4_0(blocks: Bytes) -> _Affine:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 2:]), scale, -8 * scale


def _q4_1(blocks: Bytes) -> _Affine:
    return _nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2)


def _q5_0(blocks: Bytes) -> _Affine:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6]), scale, -16 * scale


def _q5_1(blocks: Bytes) -> _Affine:
    values = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return values, _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: Bytes) -> _Affine:
    scale = _half(blocks, 0)
    # Adding 128 to a signed byte flips its highest bit.
    return blocks[:, 2:] ^ np.uint8(128), scale, -128 * scale


def _k_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Return scales and biases of the eight groups of Q4_K or Q5_K blocks, each (8 n, 1).

    A block has two float16 factors, then 6-bit numbers in 12 bytes: scales 0-3 and minima 0-3 whole
    in the low bits of bytes 0-3 and 4-7; the low 4 bits of scales and minima 4-7 share bytes 8-11,
    their high 2 bits are on top of bytes 0-3 and 4-7.
    """
    first, second, third = (blocks[:, start : start + 4] for start in (4, 8, 12))
    high_scales = third & np.uint8(15) | (first >> np.uint8(6)) << np.uint8(4)
    high_minima = third >> np.uint8(4) | (second >> np.uint8(6)) << np.uint8(4)
    scales = np.concatenate([first & np.uint8(63), high_scales], axis=-1)
    minima = np.concatenate([second & np.uint8(63), high_minima], axis=-1)
    scales_f, minima_f = _half(blocks, 0) * scales, -_half(blocks, 2) * minima
    return scales_f.reshape(-1, 1), minima_f.reshape(-1, 1)


def _k_nibbles(packed: Bytes) -> Bytes:
    """Unpack 128 bytes: four pairs of groups, each in the low and high halves of 32 bytes."""
    return _nibbles(packed.reshape(-1, 32)).reshape(-1, 32)


def _q4_k(blocks: Bytes) -> _Affine:
    return _k_nibbles(blocks[:, 16:]), *_k_scales(blocks)


def _q5_k(blocks: Bytes) -> _Affine:
    # Bit g of byte i is the fifth bit of value i of group g.
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    fifths = (blocks[:, None, 16:48] >> shifts & np.uint8(1)) << np.uint8(4)
    return _k_nibbles(blocks[:, 48:]) | fifths.reshape(-1, 32), *_k_scales(blocks)


_AFFINE: dict[GGMLQuantizationType, tuple[int, Callable[[Bytes], _Affine]]] = {
    GGMLQuantizationType.Q4_0: (4, _q4_0),
    GGMLQuantizationType.Q4_1: (4, _q4_1),
    GGMLQuantizationType.Q5_0: (5, _q5_0),
    GGMLQuantizationType.Q5_1: (5, _q5_1),
    GGMLQuantizationType.Q8_0: (8, _q8_0),
    GGMLQuantizationType.Q4_K: (4, _q4_k),
    GGMLQuantizationType.Q5_K: (5, _q5_k),
}
