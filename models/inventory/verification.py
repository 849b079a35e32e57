"""Verify models on this machine against their recorded checksums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..catalogue import entries
from ..errors import ModelError
from ..hub import cache
from ..hub.cache import HubFile
from ..hub.checksums import SHA256
from ..progress import Advance, Progress
from ..storage import manifest
from ..storage.local_model import repair, repo_named
from .listing import Kept, everything
from .lookup import find, repo_asked_for


@dataclass(frozen=True)
class Verified:
    """A verified model, and the problems of its files, a line each."""

    kept: Kept
    problems: tuple[str, ...]


def verify(name: str, progress: Progress | None = None) -> list[Verified]:
    """Hash every file of the models of a name; of a pair both models must be here.

    Args:
        name: a pair, a model or a hub repo id.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: a model is not here.
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
    """Raise if a verified model has problems.

    Raises:
        ModelError: names the files of the first damaged model, and the command that repairs it.
    """
    for one in verified:
        if one.problems:
            said = "; ".join(one.problems)
            raise ModelError(f"{one.kept.name}: {said}; repair it: {_repair(name, one.kept)}")


def _repair(name: str, kept: Kept) -> str:
    """Return the commands that replace a damaged model, and no other."""
    source = kept.source or ""
    if repo_named(source):
        parts = [
            part
            for part in entries.parts(name)
            if (asked := repo_asked_for(part)) and asked[0] == source
        ]
        fetched = parts[0] if parts else source
        return repair(kept.name if kept.is_own else fetched, fetched)
    if kept.name in entries.models():
        return repair(kept.name, kept.name)
    return f"blendin models remove {kept.name} && blendin models import {source}"


def _problems(kept: Kept, progress: Advance | None) -> list[str]:
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


def _damaged(snapshot: Path, files: Sequence[HubFile], progress: Advance | None) -> Iterator[str]:
    """Yield the problems of the files of a hub snapshot."""
    total, done = sum(max(0, file.bytes) for file in files), 0
    for file in files:
        if not (snapshot / file.name).is_file():
            yield f"{file.name} is missing"
        elif not cache.is_there(snapshot, file):
            yield f"{file.name} is damaged: its size differs"
        elif not cache.is_whole(snapshot, file, rehash=True):
            kind = "SHA-256" if SHA256.match(file.checksum or "") else "SHA-1"
            yield f"{file.name} is damaged: its {kind} differs"
        done += max(0, file.bytes)
        if progress:
            progress(done, total)
