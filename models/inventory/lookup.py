"""Models that are here: found by name, checked against what they were when fetched, removed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..catalogue import entries
from ..errors import ModelError
from ..hub import cache
from ..hub.cache import HubFile
from ..hub.checksums import SHA256, blob_of
from ..storage import manifest, paths
from ..storage.local_model import REPO_ID, repair
from .listing import Kept, conversion, everything

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Verified:
    """A model whose files were hashed, and what is wrong with them, a line each."""

    kept: Kept
    problems: tuple[str, ...]


def find(name: str, here: Sequence[Kept] | None = None) -> list[Kept]:
    """What is here of a pair, a model or a hub repo (of one revision, if the name has one).

    Args:
        here: what is on this machine, where the caller knows it already.

    Raises:
        ModelError: nothing has that name, or nothing of it is here.
    """
    if not (REPO_ID.match(name) or name in entries.pairs() or name in entries.models()):
        paths.model_folder(name)  # refuses what is no name at all
    here = everything() if here is None else here
    names = entries.parts(name)
    repos = [wanted for one in names if (wanted := _repo(one))]
    found = [
        kept
        for kept in here
        if (kept.is_own and kept.name in names) or any(_is_of(kept, *repo) for repo in repos)
    ]
    if not found:
        raise ModelError(f"{name} is not installed; {_near(name, here)}see blendin models list")
    return found


def used(name: str, here: Sequence[Kept] | None = None) -> Kept:
    """What loading a model takes, of all that is here of it.

    Raises:
        ModelError: as :func:`find`.
    """
    here = everything() if here is None else here
    found = find(name, here)
    asked = _asked(name)
    if asked is None:
        return found[0]
    repo, revision = asked
    for commit in cache.commits(repo, revision or cache.MAIN):
        if made := conversion(repo, commit, here=here):
            return made
        for kept in found:
            if kept.revision == commit and not kept.is_own and not kept.problem:
                return kept
    return found[0]


def _asked(name: str) -> tuple[str, str | None] | None:
    """The hub repo that a name stands for, and the revision if it has one."""
    entry = entries.models().get(name)
    if isinstance(entry, entries.HubModel):
        return entry.repo, entry.revision
    match = REPO_ID.match(name)
    return (match["repo"], match["revision"]) if match else None


def _repo(name: str) -> tuple[str, list[str] | None] | None:
    """The hub repo that a name stands for, and the commits that are meant; None for all."""
    asked = _asked(name)
    if asked is None or asked[1] is None:
        return asked and (asked[0], None)
    return asked[0], [asked[1], *cache.commits(asked[0], asked[1])]


def _is_of(kept: Kept, repo: str, commits: list[str] | None) -> bool:
    return kept.source == repo and (commits is None or kept.revision in commits)


def _near(name: str, here: Iterable[Kept]) -> str:
    """What may have been meant by a name that nothing has."""
    known = [*entries.pairs(), *entries.models(), *(kept.name for kept in here if kept.is_own)]
    if name in known or not (near := difflib.get_close_matches(name, known, n=1)):
        return ""
    return f"did you mean {near[0]}? "


def remove(name: str) -> Iterator[tuple[str, int]]:
    """Delete what is here of a name; yields what was deleted and how many bytes that freed.

    Raises:
        ModelError: nothing of that name is here.
    """
    for kept in find(name):
        yield kept.name, paths.remove(kept.name) if kept.is_own else _remove_snapshot(kept)


def _remove_snapshot(kept: Kept) -> int:
    """Delete a snapshot, and those of its blobs that no other snapshot has; return bytes freed.

    Links are never followed: what lies elsewhere stays.
    """
    repo = kept.folder.parents[1]
    others = [folder for folder in kept.folder.parent.iterdir() if folder != kept.folder]
    shared = {blob for folder in others for blob in _blobs(folder)}
    freed = 0
    for blob in _blobs(kept.folder) - shared:
        if blob.parent in (repo / "blobs", kept.folder) and blob.exists():
            freed += blob.lstat().st_size
        if blob.parent == repo / "blobs":
            blob.unlink(missing_ok=True)
    paths.delete_tree(kept.folder if others else repo)
    for ref in (repo / "refs").rglob("*"):
        if ref.is_file() and ref.read_text(encoding="utf-8", errors="replace") == kept.revision:
            ref.unlink()
    return freed


def _blobs(snapshot: Path) -> set[Path]:
    return {blob_of(path) for path in snapshot.rglob("*") if path.is_symlink() or path.is_file()}


def verify(name: str, progress: Progress | None = None) -> list[Verified]:
    """Hash every file of what is here of a name; of a pair both models must be here.

    Raises:
        ModelError: a model is not here, or nothing is on record of what it must be.
    """
    here, found = everything(), {}
    for part in entries.parts(name):
        try:
            found.update({kept.folder: kept for kept in find(part, here)})
        except ModelError:
            if part == name:
                raise
            raise ModelError(
                f"{part} of the pair {name} is not here; fetch it: blendin models pull {part}"
            ) from None
    verified = []
    for kept in found.values():
        report = progress and partial(progress, f"{kept.name}, verify")
        verified.append(Verified(kept, tuple(_problems(kept, report))))
    return verified


def require_whole(name: str, verified: Sequence[Verified]) -> None:
    """Refuse models that are not as they were fetched.

    Raises:
        ModelError: naming the files of the first of them, and what repairs it.
    """
    for one in verified:
        if one.problems:
            said = "; ".join(one.problems)
            raise ModelError(f"{one.kept.name}: {said}; repair it: {_repair(name, one.kept)}")


def _repair(name: str, kept: Kept) -> str:
    """The commands that bring a damaged model anew, and no other one."""
    source = kept.source or ""
    if REPO_ID.match(source):
        parts = [
            part for part in entries.parts(name) if (asked := _asked(part)) and asked[0] == source
        ]
        fetched = parts[0] if parts else source
        return repair(kept.name if kept.is_own else fetched, fetched)
    if kept.name in entries.models():
        return repair(kept.name, kept.name)
    return f"blendin models remove {kept.name} && blendin models import {source}"


def _problems(kept: Kept, progress: Callable[[int, int], None] | None) -> list[str]:
    if not kept.is_own:
        assert kept.source is not None
        assert kept.revision is not None
        listed = cache.listed(kept.source, kept.revision)
        wanted = listed or cache.judged(kept.source, kept.revision)
        return list(_damaged(kept.folder, wanted.files, progress))
    try:
        problems = manifest.problems(kept.folder, progress)
    except ModelError as error:
        problems = [str(error)]
    return problems or ([kept.problem] if kept.problem else [])


def _damaged(
    snapshot: Path, files: Sequence[HubFile], progress: Callable[[int, int], None] | None
) -> Iterator[str]:
    """Files of a hub snapshot that are not what the hub said."""
    total, done = sum(max(0, file.bytes) for file in files), 0
    for file in files:
        if not (snapshot / file.name).is_file():
            yield f"{file.name} is missing"
        elif not cache.is_there(snapshot, file):
            yield f"{file.name} is damaged: its size differs"
        elif not cache.is_whole(snapshot, file, anew=True):
            kind = "SHA-256" if SHA256.match(file.checksum or "") else "SHA-1"
            yield f"{file.name} is damaged: its {kind} differs"
        done += max(0, file.bytes)
        if progress:
            progress(done, total)
