"""Detect tied embeddings: some GGUF files store the embedding a second time as output matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gguf.constants import GGML_QUANT_SIZES

from .blocks import Floats, floats
from .file import GgufFile, Tensor

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
ROWS = 4096  # compared at a time
_FEWEST_BITS = 4  # with fewer, the rounding error is too large to compare
_MOST_BITS = 8  # the precision of bfloat16
# Largest rounding error relative to a row's norm, in steps of 2 ** -bits. The worst case is a group
# of 32 where one large value sets the step size of the 31 others.
_ROUNDING = 3.3


def tied(file: GgufFile) -> GgufFile:
    """Drop the output matrix if it equals the embedding; keep the more precise of the two.

    llama.cpp quantizes the copy to another type. The two count as equal if no row differs by more
    than rounding explains; an output matrix trained separately differs by much more.
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
    except NotImplementedError:  # an unknown block type; the conversion reports it
        return False


def _bits(tensor: Tensor) -> float:
    values, size = GGML_QUANT_SIZES[tensor.type]
    return float(8 * size / values)


def _rows(tensor: Tensor, start: int) -> Floats:
    data = tensor.rows[start : start + ROWS]
    return floats(replace(tensor, shape=(len(data), tensor.shape[1]), data=data.reshape(-1)))


def _are_near(one: Floats, other: Floats, allowed: float) -> bool:
    with np.errstate(all="ignore"):  # damaged values; `write_weights` refuses non-finite ones
        apart = np.linalg.norm(one - other, axis=1)
        return bool(np.all(apart <= allowed * np.linalg.norm(one, axis=1)))
