"""Resolve a name to a model on this machine: a catalogue name, a folder, or a hub repo id."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..catalogue import entries
from ..errors import ModelError
from ..loading.quantize import Quantization
from ..progress import Progress
from ..storage import disk_space, manifest, paths
from ..storage.disk_space import Wanted
from ..storage.local_model import LocalModel, repo_named
from .hub_models import HubRepo, is_kept, locate_repos
from .pip_packages import install


def locate(name: str, progress: Progress | None = None) -> LocalModel:
    """Find a model, fetching it if it is not on this machine (see :func:`locate_all`)."""
    (found,) = locate_all([name], progress)
    return found


def locate_all(
    names: Sequence[str],
    progress: Progress | None = None,
    quantization: Quantization | None = None,
    update: bool = False,
) -> list[LocalModel]:
    """Find models, fetching missing ones; disk space is checked before the first byte.

    Args:
        names: catalogue names, folders, or hub repo ids with an optional ``@revision``.
        progress: called with a label, the bytes done and the total bytes.
        quantization: how to quantize an unquantized hub model; if None, as before (the most
            precise of several copies), else as the catalogue says, else to 4 bits.
        update: ask the hub for newer commits of models that are already here.

    Returns:
        The models, in the order of `names`.

    Raises:
        ModelError: a name is unknown, or a model could not be fetched.

    Example:
        >>> base, guide = locate_all(["org/base@v1", "./guide"])  # doctest: +SKIP
    """
    found = [_find(name) for name in names]
    repos = [one for one in dict.fromkeys(found) if isinstance(one, HubRepo)]
    packaged = [one for one in dict.fromkeys(found) if isinstance(one, entries.PackagedModel)]
    # The parts, the joined file and the import exist side by side for a moment.
    wanted = [
        Wanted(entry.name, 3 * entry.bytes, paths.home(), "BLENDIN_HOME")
        for entry in packaged
        if not paths.is_installed(entry.name)
    ]
    disk_space.require(wanted)
    located: dict[HubRepo | entries.PackagedModel, LocalModel] = {}
    if repos:
        hub_models = locate_repos(repos, wanted, progress, quantization, update)
        located.update(hub_models.items())
    for one in packaged:
        located[one] = LocalModel(
            one.name, install(one, progress), f"sha256:{one.sha256}", one.name
        )
    return [one if isinstance(one, LocalModel) else located[one] for one in found]


def missing(names: Sequence[str]) -> list[str]:
    """Return those names whose models are not on this machine; the network is not used.

    Raises:
        ModelError: a name is unknown.
    """
    return [name for name in names if not _is_here(_find(name))]


def _is_here(found: LocalModel | HubRepo | entries.PackagedModel) -> bool:
    if isinstance(found, HubRepo):
        return is_kept(found)
    return isinstance(found, LocalModel) or paths.is_installed(found.name)


def _find(name: str) -> LocalModel | HubRepo | entries.PackagedModel:
    if not name.strip():
        raise ModelError("a model's name is empty; see blendin models list")
    entry = entries.models().get(name)
    if isinstance(entry, entries.PackagedModel):
        return entry
    if isinstance(entry, entries.HubModel):
        return HubRepo(name, entry.repo, entry.revision, Quantization(entry.bits))
    folder = Path(os.path.expanduser(name))  # leaves ~user as it is if user has no home
    if folder.is_dir():
        return LocalModel(folder.resolve().name, folder)
    if paths.NAME.match(name) and paths.model_folder(name).is_dir():
        kept = paths.model_folder(name)
        record = manifest.read(kept)
        return LocalModel(name, kept, record.revision if record else None)
    if asked := repo_named(name):
        return HubRepo(name, *asked, Quantization())
    hint = entries.hint(name, entries.models())
    raise ModelError(f"{name!r} is not a folder, a hub repo id or a known model{hint}")
