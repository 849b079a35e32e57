"""A model as the hub's cache keeps it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blendin_models.checksums import git_name


def _cached(cache: Path, repo: str, commit: str, made: Path, ref: str = "main") -> Path:
    place = cache / f"models--{repo.replace('/', '--')}"
    folder = place / "snapshots" / commit
    for part in (place / "blobs", place / "refs", folder):
        part.mkdir(parents=True, exist_ok=True)
    (place / "refs" / ref).write_text(commit)
    for file in made.iterdir():
        is_large = file.suffix == ".safetensors"
        name = hashlib.sha256(file.read_bytes()).hexdigest() if is_large else git_name(file)
        file.rename(place / "blobs" / name)
        (folder / file.name).symlink_to(os.path.relpath(place / "blobs" / name, folder))
    return folder


@pytest.fixture
def cached() -> Callable[..., Path]:
    """``cached(cache, repo, commit, folder)``: move a folder's files into a hub's cache.

    They become links to blobs named by their hash: of large files SHA-256, of small ones git's.
    """
    return _cached
