"""Create model folders atomically, under a lock per model.

Who works on a model holds its lock, which ends with the process. A folder that is being made has a
name of its own beside the one it will take; what a kill left of it is removed by whoever next
holds the lock of that model.
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
    """Hold the lock of a file, which stays: another process may be waiting on it.

    Raises:
        OSError: another process holds it, and we do not wait; or it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not filelock, which asks for the same lock again and again instead of waiting for it.
    # Non-blocking: a pipe in its place would wait for somebody who reads it
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666), "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def working_on(name: str) -> Iterator[None]:
    """Context manager: hold the lock of a model; what killed processes left is removed."""
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
    """Return the unfinished folders, each with the name of its model."""
    matches = ((path, _UNFINISHED.match(path.name)) for path in paths.models_folder().glob(".*"))
    return [(path, match["name"]) for path, match in matches if match]


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Context manager: an empty folder that becomes ``target``, or is deleted on errors."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp's folders are their owner's only
        folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # nothing is left of it after a success
