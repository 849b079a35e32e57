"""Read and validate the headers of safetensors files, without reading a weight.

A safetensors file begins with the length of its header, in 8 bytes; the header is JSON and has each
tensor's type, shape and position in the rest of the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..storage.disk_space import readable
from ..storage.small_files import load_json, parse_json

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_POINTER = b"version https://git-lfs"
INDEX = "model.safetensors.index.json"
_BITS_OF = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as a header describes it: its bytes are ``[begin, end)`` after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a model folder, by name.

    Raises:
        ModelError: a shard is missing or damaged, or does not match the index.
    """
    shards = {file.name: read_header(file) for file in sorted(folder.glob("model*.safetensors"))}
    if (folder / INDEX).is_file():
        _check_index(folder / INDEX, shards)
    return {name: tensor for shard in shards.values() for name, tensor in shard.items()}


def read_header(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, by name.

    Raises:
        ModelError: the file is not a safetensors file, is truncated, or is inconsistent.
    """
    try:
        with file.open("rb") as opened:
            size = file.stat().st_size
            first = opened.read(8)
            length = _header_length(file, first + opened.read(len(_POINTER) - 8), size)
            opened.seek(8)
            header = parse_json(opened.read(length).decode())
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError:
        raise ModelError(f"{file} is damaged: its header is not valid JSON") from None
    if not isinstance(header, dict):
        raise ModelError(f"{file} is damaged: its header is not a JSON object")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(file, name, entry) for name, entry in header.items()}
    _check_places(file, list(tensors.values()), size - 8 - length)
    return tensors


def _header_length(file: Path, begins: bytes, size: int) -> int:
    if size == 0:
        raise ModelError(f"{file} is empty")
    if begins.startswith(_POINTER):
        raise ModelError(f"{file} is a git-lfs pointer, not the weights it stands for")
    length = int.from_bytes(begins[:8], "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise ModelError(f"{file} is truncated: its header does not fit its {size} bytes")
    return length


def _tensor(file: Path, name: str, entry: Any) -> Tensor:
    wrong = ModelError(f"{file} is damaged: its header has a wrong entry for {name!r}")
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise wrong
    shape: Any = entry.get("shape")
    place: Any = entry.get("data_offsets")
    if not _counts(shape) or not _counts(place) or len(place) != 2:
        raise wrong
    bits = _BITS_OF.get(entry["dtype"])
    if bits is None:
        raise ModelError(f"{file} has weights of an unknown type: {entry['dtype']!r}")
    if math.prod(shape) * bits != 8 * (place[1] - place[0]):
        raise wrong
    return Tensor(name, entry["dtype"], tuple(shape), place[0], place[1])


def _counts(value: Any) -> bool:
    """Return True if a value is a list of at most 16 sizes; long lists cost time to multiply."""
    return (
        isinstance(value, list)
        and len(value) <= 16
        and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )


def _check_places(file: Path, tensors: list[Tensor], room: int) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda one: (one.begin, one.end)):
        if tensor.begin != end:
            raise ModelError(f"{file} is damaged: {tensor.name!r} overlaps or leaves a gap")
        end = tensor.end
    if end > room:
        raise ModelError(f"{file} is truncated: {readable(end - room)} of its weights are missing")
    if end < room:
        raise ModelError(f"{file} is damaged: {room - end} bytes after its weights")


def _check_index(index: Path, shards: dict[str, dict[str, Tensor]]) -> None:
    try:
        places = load_json(index)["weight_map"]
        wanted = sorted(set(places.values()))
    except (KeyError, TypeError, AttributeError):
        raise ModelError(f"{index} is not a valid index of weights") from None
    if missing := [str(name) for name in wanted if name not in shards]:
        named = ", ".join(map(repr, missing[:3]))
        raise ModelError(f"{index.parent} lacks {named} of {len(wanted)} shards")
    for name, shard in places.items():
        if name not in shards[shard]:
            raise ModelError(f"{index.parent / shard} lacks {name!r}, which the index places there")
