"""Read a GGUF file as metadata and raw tensors; every length is checked before it is used.

The `gguf` package's own reader trusts the file (a damaged count is an endless loop) and makes array
objects for each metadata element: 15 s for a vocabulary of 262,144. So the header is parsed here;
block sizes and type names still come from the package.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from ..errors import ModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
# The fewest bytes that an entry can occupy. A field: length of its name, type, a one-byte value.
# A tensor: length of its name, number of dimensions, type, offset.
_LEAST_FIELD = 8 + 4 + 1
_LEAST_TENSOR = 8 + 4 + 4 + 8

_SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
    GGUFValueType.BOOL: "?",
}

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: `shape` in values, row-major; `data` is its raw bytes, in blocks."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    data: Bytes

    @property
    def rows(self) -> Bytes:
        """The bytes as a matrix, one row per leading index: (prod(shape[:-1]), bytes of a row)."""
        return self.data.reshape(math.prod(self.shape[:-1]), -1)


@dataclass(frozen=True)
class GgufFile:
    """The contents of a file. Arrays in `fields` are lists of strings or numpy arrays."""

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, Tensor]


def read_gguf(path: Path) -> GgufFile:
    """Read the header of the GGUF file at `path`; tensors are memory-mapped.

    Raises:
        ModelError: the file cannot be read, is not GGUF, or is truncated or damaged.
    """
    try:
        data = np.memmap(path, mode="r", dtype=np.uint8)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelError(f"{path}: cannot be read as a GGUF file ({error})") from error
    cursor = _Cursor(path, data)
    tensor_count, field_count = _read_start(cursor)
    fields = _read_fields(cursor, field_count)
    infos = [_read_tensor_info(cursor) for _ in range(tensor_count)]
    start = _aligned(cursor, fields.get("general.alignment", _DEFAULT_ALIGNMENT))
    tensors: dict[str, Tensor] = {}
    for name, kind, shape, offset in infos:
        if name in tensors:
            raise cursor.damaged(f"two tensors are called {name!r}")
        raw = _tensor_bytes(cursor, name, kind, shape, start + offset)
        tensors[name] = Tensor(name, kind, shape, raw)
    return GgufFile(path, fields, tensors)


class _Cursor:
    """A read position in the file that never moves past its end."""

    def __init__(self, path: Path, data: Bytes) -> None:
        self.path = path
        self.data = data
        self.buffer = data.data
        self.position = 0

    def damaged(self, what: str) -> ModelError:
        """Return an error that says in what way the file is damaged."""
        return ModelError(f"{self.path}: damaged or truncated GGUF file ({what})")

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes and move behind them."""
        if size > len(self.buffer) - self.position:
            raise self.damaged(f"{size} bytes expected at byte {self.position}, but it ends")
        start = self.position
        self.position += size
        return self.buffer[start : self.position]

    def u32(self) -> int:
        """Read an unsigned 32-bit integer."""
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        """Read an unsigned 64-bit integer."""
        return int(struct.unpack("<Q", self.take(8))[0])

    def text(self) -> str:
        """Read a string: its length in bytes, then UTF-8."""
        try:
            return str(self.take(self.u64()), "utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a text is not UTF-8") from error

    def count(self, least_size: int) -> int:
        """Read a number of entries; refuse it if entries of `least_size` bytes cannot fit."""
        count = self.u64()
        if count * least_size > len(self.buffer) - self.position:
            raise self.damaged(f"{count} entries cannot fit")
        return count


def _read_start(cursor: _Cursor) -> tuple[int, int]:
    if bytes(cursor.take(4)) != _MAGIC:
        raise ModelError(f"{cursor.path}: not a GGUF file (it does not begin with 'GGUF')")
    version = cursor.u32()
    if version not in _VERSIONS:
        raise ModelError(
            f"{cursor.path}: GGUF version {version} is not supported; versions 2 and 3 "
            "(little-endian) are"
        )
    return cursor.count(_LEAST_TENSOR), cursor.count(_LEAST_FIELD)


def _read_fields(cursor: _Cursor, count: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.text()
        if key in fields:
            raise cursor.damaged(f"two entries are called {key!r}")
        fields[key] = _read_value(cursor, cursor.u32())
    return fields


def _read_value(cursor: _Cursor, code: int) -> Any:
    if code == GGUFValueType.STRING:
        return cursor.text()
    if code == GGUFValueType.ARRAY:
        return _read_array(cursor)
    dtype = _scalar_type(cursor, code)
    return np.frombuffer(cursor.take(dtype.itemsize), dtype)[0].item()


def _read_array(cursor: _Cursor) -> Any:
    code = cursor.u32()
    if code == GGUFValueType.STRING:
        return [cursor.text() for _ in range(cursor.count(8))]
    dtype = _scalar_type(cursor, code)
    count = cursor.count(dtype.itemsize)
    return np.frombuffer(cursor.take(count * dtype.itemsize), dtype)


def _scalar_type(cursor: _Cursor, code: int) -> np.dtype[Any]:
    name = _SCALARS.get(code)
    if name is None:
        raise cursor.damaged(f"unknown value type {code}")
    return np.dtype(name)


def _read_tensor_info(
    cursor: _Cursor,
) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
    name = cursor.text()
    dimensions = cursor.u32()
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise cursor.damaged(f"tensor {name!r} has {dimensions} dimensions")
    # GGUF counts the fastest dimension first, numpy last.
    shape = tuple(cursor.u64() for _ in range(dimensions))[::-1]
    code = cursor.u32()
    try:
        kind = GGMLQuantizationType(code)
    except ValueError as error:
        raise ModelError(
            f"{cursor.path}: tensor {name!r} has type {code}, which the installed gguf package "
            "does not know; update gguf, or choose a file of another quantization"
        ) from error
    return name, kind, shape, cursor.u64()


def _aligned(cursor: _Cursor, alignment: Any) -> int:
    """Return where the tensors start: the end of the header, rounded up to `alignment` bytes."""
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise cursor.damaged(f"alignment {alignment!r}")
    return -(-cursor.position // alignment) * alignment


def _tensor_bytes(
    cursor: _Cursor, name: str, kind: GGMLQuantizationType, shape: tuple[int, ...], start: int
) -> Bytes:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if min(shape) < 1 or shape[-1] % block:
        raise cursor.damaged(f"tensor {name!r} of type {kind.name} has shape {shape}")
    end = start + math.prod(shape) // block * block_bytes
    if end > len(cursor.data):
        raise cursor.damaged(f"tensor {name!r} ends at byte {end} of {len(cursor.data)}")
    return cursor.data[start:end]
