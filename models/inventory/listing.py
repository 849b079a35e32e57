"""List the models on this machine: imported and quantized ones, and those in the hub's cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..hub import cache
from ..loading.quantize import Quantization, quantization_of
from ..storage import manifest, paths


@dataclass(frozen=True)
class Kept:
    """A model folder on this machine.

    Attributes:
        name: the name to use in commands.
        folder: the folder.
        source: what it was made from, if known.
        revision: the version of the source, if known.
        problem: why it is not a usable model; None if no problem shows without reading weights.
    """

    name: str
    folder: Path
    source: str | None = None
    revision: str | None = None
    problem: str | None = None

    @property
    def bytes(self) -> int:
        """Total bytes of its files."""
        return paths.size_on_disk(self.folder)

    @property
    def is_own(self) -> bool:
        """True if it is in the program's own cache, not in the hub's."""
        return self.folder.parent == paths.models_folder()


def everything() -> list[Kept]:
    """Return all models on this machine, those in the program's own cache first."""
    return [*imported(), *snapshots()]


def imported() -> list[Kept]:
    """Return the imported and quantized models in the program's own cache, damaged ones too."""
    folder = paths.models_folder()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [_kept(path) for path in found if path.is_dir() and paths.NAME.match(path.name)]


def _kept(folder: Path) -> Kept:
    lacking = paths.lacking(folder)
    problem = f"it lacks {', '.join(lacking)}" if lacking else None
    try:
        record = manifest.read(folder)
    except ModelError as error:
        record, problem = None, problem or str(error)
    record = record or manifest.Manifest("unknown")
    return Kept(folder.name, folder, record.source, record.revision, problem)


def snapshots() -> list[Kept]:
    """Return the models in the hub's cache, each commit separately.

    Repos without weights belong to other programs, and are left out unless we began to fetch them.
    """
    found = []
    for folder in cache.snapshot_folders():
        repo = cache.repo_of(folder)
        snapshot = cache.listed(repo, folder.name)
        if snapshot is None and any(cache.is_weights(path.name) for path in folder.glob("*")):
            snapshot = cache.judged(repo, folder.name)
        if snapshot is not None:
            missing = [f.name for f in snapshot.files if not cache.is_there(folder, f)]
            problem = f"it lacks {', '.join(missing)}" if missing else None
            found.append(Kept(repo, folder, repo, folder.name, problem))
    return sorted(found, key=lambda kept: (kept.name, kept.revision or ""))


def conversion(
    repo: str,
    revision: str,
    quantization: Quantization | None = None,
    here: Sequence[Kept] | None = None,
) -> Kept | None:
    """Return a quantized copy of a hub model on this machine, the most precise of several.

    Args:
        repo: the repo id.
        revision: its commit.
        quantization: the quantization that it must have; any if None.
        here: the models on this machine, if the caller has listed them already.
    """
    found = []
    for kept in imported() if here is None else here:
        if not kept.is_own or kept.problem or (kept.source, kept.revision) != (repo, revision):
            continue
        try:
            made = quantization_of(kept.folder)
        except ModelError:
            continue
        if made and quantization in (None, made):
            found.append(((made.bits, -made.group_size), kept))
    return max(found, key=lambda one: one[0])[1] if found else None
