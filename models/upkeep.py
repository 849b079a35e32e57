"""Models that are here: which, how large, whether they are still as they were fetched; removing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import catalogue, manifest, store
from .errors import ModelError
from .resolve import REPO_ID

SHA256 = re.compile(r"[0-9a-f]{64}\Z")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Kept:
    """A model folder on this machine.

    Attributes:
        name: what to call it by.
        source, revision: what it was made from, where that is known.
    """

    name: str
    folder: Path
    source: str | None = None
    revision: str | None = None

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return store.size_on_disk(self.folder)


def imported() -> list[Kept]:
    """Models in the program's own cache: imported and quantized ones."""
    folder = store.models_folder()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    kept = []
    for path in found:
        if store.looks_like_model(path) and store.NAME.match(path.name):
            record = manifest.read(path) or manifest.Manifest("unknown")
            kept.append(Kept(path.name, path, record.source, record.revision))
    return kept


def snapshots() -> list[Kept]:
    """Hub repos in the hub's cache that hold a model, each revision by itself."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir().repos
    except (CacheNotFound, ValueError):
        return []
    revisions = [(repo, r) for repo in repos if repo.repo_type == "model" for r in repo.revisions]
    found = [
        Kept(repo.repo_id, Path(r.snapshot_path), repo.repo_id, r.commit_hash)
        for repo, r in revisions
        if store.looks_like_model(Path(r.snapshot_path))
    ]
    return sorted(found, key=lambda kept: (kept.name, kept.revision or ""))


def find(name: str) -> list[Kept]:
    """What is here of a pair, a model or a hub repo.

    Raises:
        ModelError: nothing has that name, or nothing of it is here.
    """
    names = {name}
    if name in catalogue.pairs():
        names = {model.name for model in catalogue.pairs()[name].models}
    elif name not in catalogue.models() and not REPO_ID.match(name):
        store.model_folder(name)  # refuses what is no name at all
    entries = (catalogue.models().get(one) for one in names)
    repos = {e.repo for e in entries if isinstance(e, catalogue.HubModel)} | _repo(name)
    found = [one for one in imported() if one.name in names or one.source in repos]
    found += [one for one in snapshots() if one.name in repos] if repos else []
    if not found:
        raise ModelError(f"{name} is not installed; {_near(name)}see blendin models list")
    return found


def _near(name: str) -> str:
    """What may have been meant by a name that nothing has."""
    known = [*catalogue.pairs(), *catalogue.models(), *(kept.name for kept in imported())]
    if name in known or not (near := difflib.get_close_matches(name, known, n=1)):
        return ""
    return f"did you mean {near[0]}? "


def _repo(name: str) -> set[str]:
    match = REPO_ID.match(name)
    return {match["repo"]} if match else set()


def remove(name: str) -> Iterator[tuple[str, int]]:
    """Delete what is here of a name; yields what was deleted and how many bytes that freed.

    Raises:
        ModelError: nothing of that name is here.
    """
    for kept in find(name):
        if kept.folder.parent == store.models_folder():
            yield kept.name, store.remove(kept.name)
        else:
            yield kept.name, _remove_snapshot(kept)


def _remove_snapshot(kept: Kept) -> int:
    from huggingface_hub import scan_cache_dir

    assert kept.revision is not None
    plan = scan_cache_dir().delete_revisions(kept.revision)
    freed: int = plan.expected_freed_size
    plan.execute()
    return freed


def verify(name: str, progress: Progress | None = None) -> int:
    """Hash every file of what is here of a name; how many models that was.

    Raises:
        ModelError: a file is missing or not what was recorded; or nothing of that name is here.
    """
    found = find(name)
    for kept in found:
        report = progress and partial(progress, f"{kept.name}, verify")
        own = kept.folder.parent == store.models_folder()
        problems = manifest.problems(kept.folder, report) if own else _damaged(kept.folder, report)
        if problems:
            in_pair = name in catalogue.pairs() and kept.name in catalogue.models()
            damaged = kept.name if in_pair else name  # the other one of a pair may be whole
            raise ModelError(
                f"{kept.name}: {'; '.join(problems)}; "
                f"repair it: blendin models remove {damaged} && blendin models pull {damaged}"
            )
    return len(found)


def _damaged(snapshot: Path, progress: Callable[[int, int], None] | None) -> list[str]:
    """Large files of a hub snapshot that are not what the hub said; it names them by SHA-256."""
    blobs = {file.name: file.resolve() for file in snapshot.rglob("*") if file.is_file()}
    large = {name: blob for name, blob in blobs.items() if SHA256.match(blob.name)}
    total, done, found = sum(blob.stat().st_size for blob in large.values()), 0, []
    for name, blob in large.items():
        if manifest.sha256(blob) != blob.name:
            found.append(f"{name} is damaged: its SHA-256 differs")
        done += blob.stat().st_size
        if progress:
            progress(done, total)
    return found
