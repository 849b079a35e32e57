"""Write a GGUF file's tensors as a safetensors file, converted one at a time."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..progress import Advance
from .blocks import GROUP_SIZE, bits_of, floats, quantized
from .file import GgufFile, Tensor
from .parameters import Parameter

_Array = npt.NDArray[Any]
_ITEM_BYTES = 4  # only U32 and F32 are written


@dataclass(frozen=True)
class _Entry:
    """An array of the safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def quantization(file: GgufFile, parameters: list[Parameter]) -> dict[str, Any] | None:
    """Return mlx-lm's `quantization` entry, with each quantized module; None if there are none."""
    modules = {
        parameter.module: {
            "group_size": GROUP_SIZE,
            "bits": bits_of(file.tensors[parameter.source].type),
            "mode": "affine",
        }
        for parameter in parameters
        if _is_quantized(parameter)
    }
    if not modules:
        return None
    # The top-level setting is only a default; every quantized module is listed.
    return {**next(iter(modules.values())), **modules}


def write_weights(
    file: GgufFile, parameters: list[Parameter], target: Path, progress: Advance | None
) -> None:
    """Write the tensors of `file` to `target` as `parameters` of mlx-lm, one tensor in memory.

    Args:
        file: the GGUF file.
        parameters: what to write, in this order.
        target: the safetensors file to create.
        progress: called with the bytes read so far and the total.

    Raises:
        ModelError: a tensor's block type is not supported, or it holds values that are not finite.
    """
    total = sum(len(file.tensors[parameter.source].data) for parameter in parameters)
    done = 0
    with target.open("wb") as out:
        _write_header(out, [entry for each in parameters for entry in _entries(file, each)])
        for parameter in parameters:
            for array in _arrays(file, parameter):
                out.write(np.ascontiguousarray(array).data)
            done += len(file.tensors[parameter.source].data)
            if progress is not None:
                progress(done, total)


def _is_quantized(parameter: Parameter) -> bool:
    return len(parameter.shape) == 2 and parameter.shape[-1] % GROUP_SIZE == 0


def _entries(file: GgufFile, parameter: Parameter) -> list[_Entry]:
    if not _is_quantized(parameter):
        return [_Entry(parameter.name, "F32", parameter.shape)]
    rows, columns = parameter.shape
    bits = bits_of(file.tensors[parameter.source].type)
    groups = (rows, columns // GROUP_SIZE)
    return [
        _Entry(parameter.name, "U32", (rows, columns * bits // 32)),
        _Entry(f"{parameter.module}.scales", "F32", groups),
        _Entry(f"{parameter.module}.biases", "F32", groups),
    ]


def _write_header(out: BinaryIO, entries: list[_Entry]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    start = 0
    for entry in entries:
        end = start + math.prod(entry.shape) * _ITEM_BYTES
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format allows padding, which aligns the arrays
    out.write(struct.pack("<Q", len(text)) + text)


def _arrays(file: GgufFile, parameter: Parameter) -> Iterator[_Array]:
    """Yield the arrays of `_entries`, in the same order."""
    tensor = file.tensors[parameter.source]
    try:
        arrays = _converted(tensor, parameter)
    except NotImplementedError as error:
        raise ModelError(
            f"{file.path}: GGUF block type {tensor.type.name} of {tensor.name} is not supported"
        ) from error
    for array in arrays:
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise ModelError(
                f"{file.path}: damaged GGUF file: {tensor.name} holds values that are not finite"
            )
    yield from arrays


def _converted(tensor: Tensor, parameter: Parameter) -> list[_Array]:
    heads = parameter.permuted_heads
    if not _is_quantized(parameter):
        values = floats(tensor)
        if heads:
            values = _in_order(values, heads)
        return [values - np.float32(parameter.offset)]
    if heads:
        # Blocks do not cross rows, so rows can be permuted while still in blocks.
        tensor = replace(tensor, data=_in_order(tensor.rows, heads).reshape(-1))
    matrix = quantized(tensor)
    return [matrix.weight, matrix.scales, matrix.biases]


def _in_order(rows: _Array, heads: int) -> _Array:
    """Reorder rows for mlx-lm's rotary embedding: of each head the even rows, then the odd ones."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1)
    ordered: _Array = pairs.swapaxes(1, 2).reshape(rows.shape)
    return ordered
