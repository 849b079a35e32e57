"""Small files, read and written whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

from blendin_mlx.input_text import decoded, read_text

from ..errors import ModelError, first_line

LARGEST = 100_000_000  # bytes of a JSON file; the largest tokenizers have 40 million


def parse_json(text: str) -> Any:
    """Parse the JSON text of a model file; unlike a user's it may hold ``Infinity``.

    Raises:
        ValueError: it is not JSON, or nests too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def load_json(path: Path, limit: int = LARGEST) -> Any:
    """Parse a JSON file of a model folder.

    A byte-order mark is refused, as mlx-lm and transformers do, which read the same files.

    Raises:
        ModelError: the file is missing, has more than ``limit`` bytes, is not UTF-8 or not JSON,
            or nests too deeply.
    """
    try:
        _require_regular(path)
        if (size := path.stat().st_size) > limit:
            raise ModelError(f"{path} is too large: it has {size} bytes")
        data = path.read_bytes()
        if data.startswith(BOM_UTF8):
            raise ValueError("it begins with a byte-order mark; save it without one")
        return parse_json(decoded(data, "it"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {first_line(error)}") from None


def read_json(path: Path) -> object:
    """Parse a small JSON file; return None if it is missing or damaged."""
    try:
        return parse_json(read_regular(path))
    except (OSError, ValueError):
        return None


def read_regular(path: Path) -> str:
    """Return the text of a small regular file.

    Raises:
        OSError: it is missing, or is a pipe or a device, which might never end.
        ValueError: it is not UTF-8.
    """
    _require_regular(path)
    return read_text(path)


def _require_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, not atomically: for folders that are still being built.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def replace_file(path: Path, content: str) -> None:
    """Replace a small file atomically; if it cannot be written, it stays as it is.

    Errors are ignored, so it suits only what can be computed again.
    """
    part = path.with_name(f"{path.name}.part")  # a fixed name: leftovers of a kill are replaced
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # a pipe would block, a link would lead elsewhere
        with part.open("x", encoding="utf-8") as file:
            file.write(content)
        os.replace(part, path)
