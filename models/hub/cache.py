"""Hub repos in the local cache: which files they have, and which of those are complete.

The cache is huggingface_hub's own (``HF_HOME``), shared with every other program that uses it. The
hub's file listings are stored under ``BLENDIN_HOME``.
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

# The weights that are loaded and their companions: no code, no pickles, no subfolders.
WANTED = (paths.WEIGHTS, "*.json", "*.jinja", "*.txt", "tokenizer.model")
INDEX = "model.safetensors.index.json"
# A snapshot that another program fetched is complete only with these.
_EXPECTED = (*paths.REQUIRED, "tokenizer_config.json")
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_CHECKSUM = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\Z")


@dataclass(frozen=True)
class HubFile:
    """A file of a repo, as the hub lists it.

    Attributes:
        name: the file name.
        bytes: its size.
        checksum: SHA-256 of a large file, git's SHA-1 of a small one, None if unknown. The cache
            stores the content under that name.
    """

    name: str
    bytes: int
    checksum: str | None


@dataclass(frozen=True)
class Snapshot:
    """The files to fetch from a repo at one commit.

    Attributes:
        repo: the repo id, ``owner/name``.
        revision: the commit.
        files: the files to fetch, small ones first.
        asked: the branch, tag or commit that was requested.
    """

    repo: str
    revision: str
    files: tuple[HubFile, ...]
    asked: str = MAIN

    @property
    def bytes(self) -> int:
        """Total bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def folder(self) -> Path:
        """The folder of its files in the cache; it may not exist yet."""
        return repo_folder(self.repo) / "snapshots" / self.revision

    def blob(self, file: HubFile) -> Path:
        """Return the cache's path for the content of a file, independent of the hub's headers.

        Raises:
            ValueError: the file has no valid checksum.
        """
        if file.checksum is None or not _CHECKSUM.match(file.checksum):
            raise ValueError(f"no checksum of {file.name}")
        return repo_folder(self.repo) / "blobs" / file.checksum

    @property
    def missing(self) -> list[HubFile]:
        """The files that are missing or incomplete."""
        return [file for file in self.files if not is_whole(self.folder, file)]


def is_wanted(name: str) -> bool:
    """Return True if a file of a repo is to be fetched."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in WANTED)


def is_weights(name: str) -> bool:
    """Return True if a file holds weights."""
    return fnmatchcase(name, paths.WEIGHTS)


def cache() -> Path:
    """Return the cache folder of huggingface_hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repo_folder(repo: str) -> Path:
    """Return the folder of a repo in the cache."""
    # As huggingface_hub's repo_folder_name, whose module takes seconds to import.
    return cache() / f"models--{repo.replace('/', '--')}"


def snapshot_folders() -> list[Path]:
    """Return the folders of all model snapshots in the cache."""
    folders = cache().glob("models--*--*/snapshots/*")
    return sorted(path for path in folders if COMMIT.match(path.name) and path.is_dir())


def repo_of(snapshot: Path) -> str:
    """Return the repo id of a snapshot folder in the cache."""
    return snapshot.parents[1].name.removeprefix("models--").replace("--", "/", 1)


def is_there(folder: Path, file: HubFile) -> bool:
    """Return True if a file exists and has its listed size."""
    return _has_size(folder / file.name, file)


def _has_size(path: Path, file: HubFile) -> bool:
    try:
        return path.is_file() and path.stat().st_size == file.bytes
    except OSError:
        return False


def is_whole(folder: Path, file: HubFile, rehash: bool = False) -> bool:
    """Return True if a file of a snapshot has its size and checksum (see `holds`)."""
    return holds(folder / file.name, file, rehash)


def holds(path: Path, file: HubFile, rehash: bool = False) -> bool:
    """Return True if a blob, or a link to one, has the content of a file of the hub.

    Args:
        path: the blob, or the link.
        file: the file as the hub lists it.
        rehash: compute its checksum even if it was verified before.
    """
    with contextlib.suppress(OSError):
        return _has_size(path, file) and is_as_recorded(path, file.checksum, rehash)
    return False


def link(snapshot: Snapshot, file: HubFile) -> None:
    """Link a file whose blob is in the cache into its snapshot folder."""
    blob, pointer = snapshot.blob(file), snapshot.folder / file.name
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:  # a file system without symbolic links
        os.replace(blob, pointer)


def lock_file(repo: str, blob: str) -> Path:
    """Return the lock file that huggingface_hub, too, holds while it writes a blob."""
    return cache() / ".locks" / repo_folder(repo).name / f"{blob}.lock"


def known(repo: str, asked: str) -> Iterator[Snapshot]:
    """Yield the snapshots of a repo that may be in the cache, best first.

    First the hub's last listing, then the commit that the cache has for the branch or tag. A
    snapshot that another program fetched is checked against its own index; checksums of its large
    files are the names of their blobs.
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
    for name in dict.fromkeys((*_EXPECTED, *shards, *_others(folder))):
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
        own = blob_of(path).name
        yield HubFile(name, size, own if _CHECKSUM.match(own) else None)


def _others(folder: Path) -> list[str]:
    """Return the other files to check; weights are left out because the index lists them."""
    names = sorted(path.name for path in folder.glob("*"))
    return [name for name in names if is_wanted(name) and not is_weights(name)]


def commits(repo: str, asked: str) -> list[str]:
    """Return the commits that the cache may have for a branch, tag or commit, best first."""
    return [snapshot.revision for snapshot in known(repo, asked)]


def listed(repo: str, commit: str) -> Snapshot | None:
    """Return the hub's stored listing of a commit, whatever revision it was requested by."""
    listings = (paths.home() / "hub").glob(f"{escape(repo)}@*.json".replace("/", "--"))
    keys = sorted(path.stem.rpartition("@")[2] for path in listings)
    for key in (commit, *keys):
        snapshot = _listed(repo, key)
        if snapshot is not None and snapshot.revision == commit:
            return snapshot
    return None


def judged(repo: str, commit: str) -> Snapshot:
    """Return the files that a snapshot must have by its own index, where no listing is stored."""
    folder = repo_folder(repo) / "snapshots" / commit
    return Snapshot(repo, commit, tuple(_judged(folder)), commit)


def remember(snapshot: Snapshot) -> None:
    """Store the hub's listing for use without network."""
    _write_listing(snapshot, snapshot.asked)


def make_findable(snapshot: Snapshot) -> None:
    """Register a complete snapshot under its commit, and under the branch or tag requested."""
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
    """Delete partial files of killed downloads of a repo; return how many.

    Files that another process is still writing are kept.
    """
    swept = 0
    for part in (repo_folder(repo) / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):  # locked by another process, or a read-only cache
            with locked(lock_file(repo, part.name.partition(".")[0]), wait=False):
                part.unlink()
            swept += 1
    return swept
