"""Create model folders atomically, under a lock per model.

A process that creates a model holds its lock, which ends with the process. It writes to a temporary
folder beside the target; the next process to take the lock removes one left by a kill.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import paths

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks, and no MLX
    fcntl = None  # type: ignore[assignment]

_UNFINISHED = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\Z")  # as mkdtemp names them


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Context manager: lock a file. It is not deleted, as another process may be waiting for it.

    Raises:
        OSError: another process holds the lock and `wait` is False, or the file is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not filelock, which asks for the same lock again and again instead of waiting for it.
    # Non-blocking: opening a pipe in its place would wait for a reader.
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666), "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def working_on(name: str) -> Iterator[None]:
    """Context manager: lock the model of that name, and remove what killed processes left."""
    with locked(_lock_file(name)):
        for folder, of in _unfinished():
            if of == name:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            with suppress(OSError), locked(_lock_file(of), wait=False):
                shutil.rmtree(folder, ignore_errors=True)
        yield


def _lock_file(name: str) -> Path:
    return paths.home() / "locks" / f"{name}.lock"


def _unfinished() -> list[tuple[Path, str]]:
    """Return the unfinished folders, each with its model's name."""
    matches = ((path, _UNFINISHED.match(path.name)) for path in paths.models_folder().glob(".*"))
    return [(path, match["name"]) for path, match in matches if match]


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Context manager: an empty folder that is renamed to ``target`` on success, else deleted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp's folders are private
        folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # already renamed on success
