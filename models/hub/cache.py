"""A hub repo on this machine: its files in the hub's cache, what is known of them, what is whole.

The cache is huggingface_hub's own (``HF_HOME``), shared with every other program that uses it. What
the hub listed is remembered in our home.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import Any

from ..storage import paths
from ..storage.atomic_folders import locked
from ..storage.small_files import read_json, read_regular, replace_file
from .checksums import blob_of, is_as_recorded

# Weights that are loaded, and what goes with them. Never code, never pickles, never sub-folders.
WANTED = (paths.WEIGHTS, "*.json", "*.jinja", "*.txt", "tokenizer.model")
INDEX = "model.safetensors.index.json"
# Without these no snapshot that somebody else fetched is taken for complete.
EXPECTED = (*paths.REQUIRED, "tokenizer_config.json")
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}\Z")
CHECKSUM = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\Z")


@dataclass(frozen=True)
class HubFile:
    """A file of a repo, as the hub lists it.

    Attributes:
        checksum: its SHA-256, or git's SHA-1 where it is small; None where neither is known. The
            cache keeps its content under that name.
    """

    name: str
    bytes: int
    checksum: str | None


@dataclass(frozen=True)
class Snapshot:
    """What is wanted of a repo at one commit.

    Attributes:
        revision: the commit.
        files: small ones first.
        asked: the branch, tag or commit that was asked for.
    """

    repo: str
    revision: str
    files: tuple[HubFile, ...]
    asked: str = MAIN

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def folder(self) -> Path:
        """Where the cache has, or will have, its files."""
        return repo_folder(self.repo) / "snapshots" / self.revision

    def blob(self, file: HubFile) -> Path:
        """Return where the cache keeps the content of a file; no header of the hub has a say."""
        if file.checksum is None or not CHECKSUM.match(file.checksum):
            raise ValueError(f"no checksum of {file.name}")
        return repo_folder(self.repo) / "blobs" / file.checksum

    @property
    def missing(self) -> list[HubFile]:
        """The files that are not here, or not whole."""
        return [file for file in self.files if not is_whole(self.folder, file)]


def is_wanted(name: str) -> bool:
    """Whether a file of a repo is fetched."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in WANTED)


def is_weights(name: str) -> bool:
    """Whether a file holds weights."""
    return fnmatchcase(name, paths.WEIGHTS)


def cache() -> Path:
    """The cache of huggingface_hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repo_folder(repo: str) -> Path:
    """Where the cache has a repo."""
    return cache() / f"models--{repo.replace('/', '--')}"


def snapshot_folders() -> list[Path]:
    """The folders of all snapshots that the cache has of models."""
    folders = cache().glob("models--*--*/snapshots/*")
    return sorted(path for path in folders if COMMIT.match(path.name) and path.is_dir())


def repo_of(snapshot: Path) -> str:
    """The repo that a folder of the cache belongs to."""
    return snapshot.parents[1].name.removeprefix("models--").replace("--", "/", 1)


def is_there(folder: Path, file: HubFile) -> bool:
    """True if a file is there and has its size."""
    return _has_size(folder / file.name, file)


def _has_size(path: Path, file: HubFile) -> bool:
    try:
        return path.is_file() and path.stat().st_size == file.bytes
    except OSError:
        return False


def is_whole(folder: Path, file: HubFile, anew: bool = False) -> bool:
    """True if a file of a snapshot has its size and checksum (``anew``: hashed again)."""
    return holds(folder / file.name, file, anew)


def holds(path: Path, file: HubFile, anew: bool = False) -> bool:
    """True if a path, of a blob or a link to one, has the content of a file of the hub."""
    with contextlib.suppress(OSError):
        return _has_size(path, file) and is_as_recorded(path, file.checksum, anew)
    return False


def link(snapshot: Snapshot, file: HubFile) -> None:
    """Let a snapshot have a file whose content is in the cache."""
    blob, pointer = snapshot.blob(file), snapshot.folder / file.name
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:  # a file system without links
        os.replace(blob, pointer)


def lock_file(repo: str, blob: str) -> Path:
    """Return what huggingface_hub, too, holds while it writes a blob."""
    return cache() / ".locks" / repo_folder(repo).name / f"{blob}.lock"


def known(repo: str, asked: str) -> Iterator[Snapshot]:
    """What may be here of a repo, best first: as last listed, then what the cache has by that name.

    A snapshot that another program fetched is judged by its own index, and of its large files
    the cache says what must be in them.
    """
    last = _listed(repo, asked)
    if last is not None:
        yield last
    commit = asked if COMMIT.match(asked) else _commit_of(repo, asked)
    if commit is not None and (last is None or last.revision != commit):
        yield _listed(repo, commit) or judged(repo, commit)


def _commit_of(repo: str, asked: str) -> str | None:
    try:
        commit = read_regular(repo_folder(repo) / "refs" / asked).strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.match(commit) else None


def _judged(folder: Path) -> Iterator[HubFile]:
    index = read_json(folder / INDEX)
    weights = index.get("weight_map") if isinstance(index, dict) else None
    shards = map(str, weights.values()) if isinstance(weights, dict) else ["model.safetensors"]
    for name in dict.fromkeys((*EXPECTED, *shards, *_others(folder))):
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
        own = blob_of(path).name
        yield HubFile(name, size, own if CHECKSUM.match(own) else None)


def _others(folder: Path) -> list[str]:
    """What else of the wanted kinds is there; weights only as the index has them."""
    names = sorted(path.name for path in folder.glob("*"))
    return [name for name in names if is_wanted(name) and not is_weights(name)]


def commits(repo: str, asked: str) -> list[str]:
    """The commits that a branch, tag or commit stands for here, best first."""
    return [snapshot.revision for snapshot in known(repo, asked)]


def listed(repo: str, commit: str) -> Snapshot | None:
    """What the hub listed for a commit, under whichever name it was asked for."""
    listings = (paths.home() / "hub").glob(f"{escape(repo)}@*.json".replace("/", "--"))
    keys = sorted(path.stem.rpartition("@")[2] for path in listings)
    for key in (commit, *keys):
        snapshot = _listed(repo, key)
        if snapshot is not None and snapshot.revision == commit:
            return snapshot
    return None


def judged(repo: str, commit: str) -> Snapshot:
    """What a snapshot must hold by its own index, where nothing was listed."""
    folder = repo_folder(repo) / "snapshots" / commit
    return Snapshot(repo, commit, tuple(_judged(folder)), commit)


def remember(snapshot: Snapshot) -> None:
    """Keep what the hub listed, for when there is no network."""
    _write_listing(snapshot, snapshot.asked)


def make_findable(snapshot: Snapshot) -> None:
    """Let a complete snapshot be found by its commit, and by the branch or tag it was asked by."""
    _write_listing(snapshot, snapshot.revision)
    if snapshot.asked != snapshot.revision:
        replace_file(repo_folder(snapshot.repo) / "refs" / snapshot.asked, snapshot.revision)


def _write_listing(snapshot: Snapshot, key: str) -> None:
    files = [astuple(file) for file in snapshot.files]
    content = {"revision": snapshot.revision, "files": files}
    replace_file(_listing_file(snapshot.repo, key), json.dumps(content, indent=1))


def _listed(repo: str, key: str) -> Snapshot | None:
    content: Any = read_json(_listing_file(repo, key))
    try:
        files = tuple(HubFile(*file) for file in content["files"])
        revision = content["revision"]
        sound = COMMIT.match(revision) and all(Path(f.name) and f.bytes >= 0 for f in files)
    except (TypeError, KeyError):
        return None
    return Snapshot(repo, revision, files, key) if sound else None


def _listing_file(repo: str, key: str) -> Path:
    return paths.home() / "hub" / f"{repo}@{key}.json".replace("/", "--")


def sweep(repo: str) -> int:
    """Delete what killed downloads of a repo left, but nothing that one is writing; how many."""
    swept = 0
    for part in (repo_folder(repo) / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):  # held by another process, or a cache that is read-only
            with locked(lock_file(repo, part.name.partition(".")[0]), wait=False):
                part.unlink()
            swept += 1
    return swept
