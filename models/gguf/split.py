"""Read a GGUF model that llama.cpp split into several files."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ModelError
from .file import GgufFile, Tensor, read_gguf

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf\Z")


def stem(path: Path) -> str:
    """Return the file name of a model without extension and part number."""
    match = PART.match(path.name)
    return match["stem"] if match else path.stem


def parts(path: Path) -> list[Path]:
    """Return all files of a model in order, given any one of them.

    Raises:
        ModelError: other parts are missing from its folder.
    """
    match = PART.match(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    names = (f"{match['stem']}-{n:05}-of-{match['count']}.gguf" for n in range(1, count + 1))
    found = [path.with_name(name) for name in names]
    if missing := [part.name for part in found if not part.is_file()]:
        named = ", ".join(missing[:3]) + (", …" if missing[3:] else "")
        raise ModelError(
            f"{path}: one of {count} parts of a GGUF model; {named} must be in the same folder"
        )
    return found or [path]


def read_model(path: Path) -> GgufFile:
    """Read the header of a GGUF model, joining its parts if it is split.

    Raises:
        ModelError: a part is missing, damaged, or of another model.
    """
    named = read_gguf(path)
    count = named.fields.get("split.count", 1)
    if not isinstance(count, int) or count in (0, 1):
        return named
    files = parts(path)
    if len(files) != count:
        raise ModelError(
            f"{path}: one of {count} parts of a GGUF model; their names must end in "
            f"-00001-of-{count:05}.gguf and so on"
        )
    return _joined([read_gguf(file) for file in files])


def _joined(files: list[GgufFile]) -> GgufFile:
    """Join the parts of a model; the first one holds the metadata."""
    first = files[0]
    tensors: dict[str, Tensor] = {}
    for number, file in enumerate(files):
        said = file.fields.get("split.count"), file.fields.get("split.no")
        if said != (len(files), number) or not tensors.keys().isdisjoint(file.tensors):
            raise ModelError(f"{file.path}: not part {number + 1} of the model in {first.path}")
        tensors |= file.tensors
    total = first.fields.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise ModelError(f"{first.path}: its parts hold {len(tensors)} tensors, not {total}")
    return GgufFile(first.path, first.fields, tensors)
