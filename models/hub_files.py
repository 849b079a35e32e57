"""A hub repo on this machine: its files in the hub's cache, what is known of them, what is whole.

The cache is huggingface_hub's own (``HF_HOME``), shared with every other program that uses it. Two
things are remembered in our home: what the hub listed, and which large files had the SHA-256 that
the hub has on record.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from . import manifest, store

# Weights that are loaded, and what goes with them. Never code, never pickles, never sub-folders.
WEIGHTS = "model*.safetensors"
WANTED = (WEIGHTS, "*.json", "*.jinja", "*.txt", "tokenizer.model")
INDEX = "model.safetensors.index.json"
# Without these no snapshot that somebody else fetched is taken for complete.
EXPECTED = ("config.json", "tokenizer_config.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class HubFile:
    """A file of a repo, as the hub lists it; small files have no SHA-256 on record."""

    name: str
    bytes: int
    sha256: str | None


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

    @property
    def missing(self) -> list[HubFile]:
        """The files that are not here, or not whole."""
        return [file for file in self.files if not is_whole(self.folder, file)]


def is_wanted(name: str) -> bool:
    """Whether a file of a repo is fetched."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in WANTED)


def is_weights(name: str) -> bool:
    """Whether a file holds weights."""
    return fnmatchcase(name, WEIGHTS)


def cache() -> Path:
    """The cache of huggingface_hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repo_folder(repo: str) -> Path:
    """Where the cache has a repo."""
    return cache() / f"models--{repo.replace('/', '--')}"


def is_whole(folder: Path, file: HubFile) -> bool:
    """Whether a file is there, has its size and, if it is on record, its SHA-256."""
    path = folder / file.name
    try:
        if path.stat().st_size != file.bytes:
            return False
        return file.sha256 is None or _has_sha256(path.resolve(), file.sha256)
    except OSError:
        return False


def _has_sha256(blob: Path, sha256: str) -> bool:
    """Hash a file, unless it was found right before and is as it was then."""
    about = blob.stat()
    fact = [about.st_size, about.st_mtime_ns, sha256]
    if _verified().get(str(blob)) == fact:
        return True
    if manifest.sha256(blob) != sha256:
        return False
    facts = {path: known for path, known in _verified().items() if Path(path).exists()}
    _write(_facts_file(), json.dumps({**facts, str(blob): fact}, indent=1))
    return True


def _facts_file() -> Path:
    return store.home() / "verified.json"


def _verified() -> dict[str, list[object]]:
    facts = _read(_facts_file())
    return facts if isinstance(facts, dict) else {}


def discard(path: Path) -> None:
    """Delete a file of a snapshot and what it points to."""
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink(missing_ok=True)
        path = target
    path.unlink(missing_ok=True)


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
        folder = repo_folder(repo) / "snapshots" / commit
        yield _listed(repo, commit) or Snapshot(repo, commit, tuple(_judged(folder)), asked)


def _commit_of(repo: str, asked: str) -> str | None:
    try:
        commit = (repo_folder(repo) / "refs" / asked).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.match(commit) else None


def _judged(folder: Path) -> Iterator[HubFile]:
    index = _read(folder / INDEX)
    weights = index.get("weight_map") if isinstance(index, dict) else None
    shards = map(str, weights.values()) if isinstance(weights, dict) else ["model.safetensors"]
    tokenizer = next((name for name in TOKENIZERS if (folder / name).exists()), TOKENIZERS[0])
    for name in (*EXPECTED, tokenizer, *dict.fromkeys(shards)):
        blob = (folder / name).resolve()
        size = blob.stat().st_size if blob.is_file() else -1
        yield HubFile(name, size, blob.name if SHA256.match(blob.name) else None)


def remember(snapshot: Snapshot) -> None:
    """Keep what the hub listed, for when there is no network."""
    _write_listing(snapshot, snapshot.asked)


def make_findable(snapshot: Snapshot) -> None:
    """Let a complete snapshot be found by its commit, and by the branch or tag it was asked by."""
    _write_listing(snapshot, snapshot.revision)
    if snapshot.asked != snapshot.revision:
        _write(repo_folder(snapshot.repo) / "refs" / snapshot.asked, snapshot.revision)


def _write_listing(snapshot: Snapshot, key: str) -> None:
    files = [astuple(file) for file in snapshot.files]
    content = {"revision": snapshot.revision, "files": files}
    _write(_listing_file(snapshot.repo, key), json.dumps(content, indent=1))


def _listed(repo: str, key: str) -> Snapshot | None:
    content = _read(_listing_file(repo, key))
    try:
        files = tuple(HubFile(*file) for file in content["files"])  # type: ignore[index]
        return Snapshot(repo, content["revision"], files, key)  # type: ignore[index]
    except (TypeError, KeyError):
        return None


def _listing_file(repo: str, key: str) -> Path:
    return store.home() / "hub" / f"{repo}@{key}.json".replace("/", "--")


def sweep(repo: str) -> int:
    """Delete what killed downloads of a repo left, but nothing that one is writing; how many."""
    swept = 0
    locks = cache() / ".locks" / repo_folder(repo).name
    for part in (repo_folder(repo) / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):  # held by another process, or a cache that is read-only
            with _lock(locks / f"{part.name.partition('.')[0]}.lock"):
                part.unlink()
            swept += 1
    return swept


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """What huggingface_hub holds while it writes a blob; at once or never."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _read(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _write(path: Path, content: str) -> None:
    """Replace a small file; where that cannot be, it is not there and costs time later."""
    part = path.with_name(f"{path.name}.part")  # one name: what a kill leaves is used again
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(content, encoding="utf-8")
        os.replace(part, path)
