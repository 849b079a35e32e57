"""Small files of ours, read and written whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

from blendin_mlx.input_text import read_text


def read_json(path: Path) -> object:
    """Return what a small file holds, None where it is not there or damaged."""
    try:
        content: object = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content


def read_regular(path: Path) -> str:
    """Return the text of a small regular file.

    Raises:
        OSError: it is not there, or is a pipe or a device, which might never end.
        ValueError: it is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return read_text(path)


def replace_file(path: Path, content: str) -> None:
    """Write a small file whole; where that cannot be, it is not there and costs time later."""
    part = path.with_name(f"{path.name}.part")  # one name: what a kill leaves is replaced
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # a pipe would wait, a link lead elsewhere
        with part.open("x", encoding="utf-8") as file:
            file.write(content)
        os.replace(part, path)
