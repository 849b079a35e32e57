"""An output matrix that is the embedding stored a second time, as some GGUF files have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gguf.constants import GGML_QUANT_SIZES

from .blocks import Floats, floats
from .file import GgufFile, Tensor

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
ROWS = 4096  # compared at once
_FEWEST_BITS = 4  # with fewer, rounding says too little of what was rounded
_MOST_BITS = 8  # bfloat16 is no more exact than that
# Of a row's norm: groups of 32 whose one large value sets the step of 31 others are the worst.
_ROUNDING = 3.3


def tied(file: GgufFile) -> GgufFile:
    """Return the file with one matrix for both, the more exact one, where they are the same.

    They are if no row of one is farther from that of the other than rounding can set them apart:
    llama.cpp quantizes the copy to another type. An output matrix of its own differs by much more.
    """
    embedding, output = file.tensors.get(EMBEDDING), file.tensors.get(OUTPUT)
    if embedding is None or output is None or not _same(embedding, output):
        return file
    finer = max(embedding, output, key=_bits)
    rest = {name: tensor for name, tensor in file.tensors.items() if name != OUTPUT}
    return replace(file, tensors={**rest, EMBEDDING: replace(finer, name=EMBEDDING)})


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or len(one.shape) != 2:
        return False
    if one.type == other.type:
        return np.array_equal(one.data, other.data)
    bits = int(min(_bits(one), _bits(other), _MOST_BITS))
    if bits < _FEWEST_BITS:
        return False
    allowed = _ROUNDING * 2.0**-bits
    try:
        return all(
            _are_near(_rows(one, start), _rows(other, start), allowed)
            for start in range(0, one.shape[0], ROWS)
        )
    except NotImplementedError:  # a block type that cannot be read; whoever converts it says so
        return False


def _bits(tensor: Tensor) -> float:
    values, size = GGML_QUANT_SIZES[tensor.type]
    return float(8 * size / values)


def _rows(tensor: Tensor, start: int) -> Floats:
    data = tensor.rows[start : start + ROWS]
    return floats(replace(tensor, shape=(len(data), tensor.shape[1]), data=data.reshape(-1)))


def _are_near(one: Floats, other: Floats, allowed: float) -> bool:
    with np.errstate(all="ignore"):  # damaged values; the writer refuses what is not finite
        apart = np.linalg.norm(one - other, axis=1)
        return bool(np.all(apart <= allowed * np.linalg.norm(one, axis=1)))
