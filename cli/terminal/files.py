"""Files that options name: written to a temporary file beside, then renamed.

A device or a pipe is written to directly. A link stays; the file it points to is replaced.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

import click

SYSTEM = (Path("/dev"), Path("/proc"))  # /dev/stdout may be a link to a file; it is not replaced


class Target:
    """A file to write, checked at once and opened by the first write.

    The old content stays until then, so that an error before the first write loses nothing. From
    then on the file has its name, so that what is written survives a later error.

    Args:
        path: the file.
        option: how the user named it, for messages.

    Raises:
        click.UsageError: it cannot be written.

    Example:
        >>> with Target(Path("run.jsonl"), "--trace") as file:
        ...     file.write("{}\\n")
    """

    def __init__(self, path: Path, option: str) -> None:
        self._path, self._option = path, option
        self._file: IO[bytes] | None = None
        folder = path.parent
        if path.is_dir():
            raise self._refusal("it is a folder")
        if not folder.is_dir():
            raise self._refusal(f"there is no folder {folder}")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise self._refusal("permission denied")

    def _refusal(self, reason: str) -> click.UsageError:
        return click.UsageError(f"{self._option}: cannot write {self._path}: {reason}")

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, content: str | bytes) -> None:
        """Write a part and flush it.

        Raises:
            OSError: it could not be written; if it is the first part, the old content stays.
        """
        data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
        if self._file is None:
            self._file = self._begun(data)
        else:
            self._file.write(data)
            self._file.flush()

    def flush(self) -> None:
        """Do nothing: every part is flushed as it is written."""

    def _begun(self, data: bytes) -> IO[bytes]:
        path = self._path
        if path.exists() and not (path.is_file() and _is_ours(path)):
            return _written(path.open("ab"), data)
        target = path.resolve()
        if not os.access(target.parent, os.W_OK):  # the file may be written, the folder may not
            return _written(target.open("wb"), data)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        file = part.open("xb")
        try:
            _written(file, data)
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            with suppress(OSError):
                file.close()
            raise
        return file


def _is_ours(path: Path) -> bool:
    """Return whether the path is not a name that the system gives to an open file."""
    return not any(folder in path.absolute().parents for folder in SYSTEM)


def _written(file: IO[bytes], data: bytes) -> IO[bytes]:
    try:
        file.write(data)
        file.flush()
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    return file


def write_whole(path: Path, content: str | bytes, option: str) -> None:
    """Write a file atomically (see :class:`Target`)."""
    with Target(path, option) as file:
        file.write(content)


class FileToWrite(click.Path):
    """An option that names a file to write; no settings file may hold it."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)
