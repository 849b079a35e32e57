"""Remove models from this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..hub.checksums import blob_of
from ..storage import paths
from .listing import Kept
from .lookup import find


def remove(name: str) -> Iterator[tuple[str, int]]:
    """Delete the models of a name; yield each one's name and the bytes freed.

    Raises:
        ModelError: no model of that name is here.
    """
    for kept in find(name):
        yield kept.name, paths.remove(kept.name) if kept.is_own else _remove_snapshot(kept)


def _remove_snapshot(kept: Kept) -> int:
    """Delete a snapshot, and those of its blobs that no other snapshot has; return bytes freed.

    Links are never followed: files outside the repo stay.
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
