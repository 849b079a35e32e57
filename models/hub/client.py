"""Look up hub models, fetch them into the hub's cache, verify them, and find them offline.

Files are downloaded one after the other in the caller's thread, so Ctrl-C ends a download at once.
If the process is killed, the next download starts the interrupted file again, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ModelError, UnsuitableError
from ..progress import Progress
from ..storage import disk_space, paths
from ..storage.atomic_folders import locked
from ..storage.disk_space import Wanted
from . import cache, transfer
from .cache import COMMIT, MAIN, HubFile, Snapshot
from .checksums import SHA1, SHA256
from .errors import LOG, explained, retry, try_again, warn_of_plain_http

LONGEST_LISTING = 50_000_000  # bytes; listings of ten thousand files are smaller


def kept(repo: str, revision: str | None = None) -> Path | None:
    """Return the folder of a repo if all its files are in the cache and verified, else None.

    The network is not used, and the cache may be read-only.

    Args:
        repo: the repo id, ``owner/name``.
        revision: a branch, tag or commit; the main branch if None.

    Raises:
        ModelError: the revision is not a valid name.
    """
    asked = _checked_revision(repo, revision)
    for snapshot in cache.known(repo, asked):
        if not snapshot.missing:
            return snapshot.folder
    return None


def commits(repo: str, revision: str | None = None) -> list[str]:
    """Return the commits in the cache for a branch, tag or commit, best first."""
    return cache.commits(repo, _checked_revision(repo, revision))


def is_offline() -> bool:
    """Return True if ``HF_HUB_OFFLINE`` forbids requests to the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def look_up(repo: str, revision: str | None = None) -> Snapshot:
    """Ask the hub for the files of a repo, and store the listing.

    Args:
        repo: the repo id, ``owner/name``.
        revision: a branch, tag or commit; the main branch if None.

    Raises:
        ModelError: there is no such repo or revision, access is refused, or it has no weights of a
            supported kind.
    """
    asked = _checked_revision(repo, revision)
    warn_of_plain_http()
    with explained(repo, asked):
        snapshot = _snapshot(repo, asked, _listing(repo, asked))
    cache.remember(snapshot)
    return snapshot


def _listing(repo: str, asked: str) -> Any:
    from huggingface_hub import constants
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo)
    url = f"{constants.ENDPOINT}/api/models/{repo}/revision/{quote(asked, safe='')}?blobs=true"
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    return json.loads(retry(lambda: transfer.read(url, LONGEST_LISTING, timeout)))


def _checked_revision(repo: str, revision: str | None) -> str:
    asked = MAIN if revision is None else revision
    if not asked or asked.startswith("/") or ".." in asked:
        raise ModelError(f"{repo} can have no revision {asked!r}")
    return asked


def _snapshot(repo: str, asked: str, content: Any) -> Snapshot:
    commit = content["sha"]
    if not COMMIT.match(commit):
        raise ValueError(f"{commit!r} is not a commit")
    files = [_file(one) for one in content["siblings"] if _is_wanted(repo, one["rfilename"])]
    if not any(cache.is_weights(file.name) for file in files):
        raise UnsuitableError(
            f"{repo} has no {paths.WEIGHTS}, the only weights that are loaded from the hub"
        )
    if lacking := [name for name in paths.REQUIRED if name not in {file.name for file in files}]:
        raise UnsuitableError(
            f"{repo} has no {' and no '.join(lacking)}, so it cannot be loaded; choose another repo"
        )
    files.sort(key=lambda f: (cache.is_weights(f.name), f.bytes, f.name))
    return Snapshot(repo, commit, tuple(files), asked)


def _file(listed: Any) -> HubFile:
    """Parse a file of the hub's listing: a large one has a SHA-256, a small one git's SHA-1.

    Raises:
        ValueError: its size or checksum is missing or invalid.
    """
    large = listed.get("lfs")
    size, checksum = (
        (large["size"], large["sha256"]) if large else (listed["size"], listed["blobId"])
    )
    if type(size) is not int or size < 0 or not (SHA256 if large else SHA1).match(checksum):
        raise ValueError(f"no valid size or checksum of {listed['rfilename']}")
    return HubFile(listed["rfilename"], size, checksum)


def _is_wanted(repo: str, name: str) -> bool:
    _refuse_odd_name(repo, name)
    return cache.is_wanted(name)


def _refuse_odd_name(repo: str, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in name or not name.isprintable():
        raise ModelError(
            f"{repo} lists a file named {name!r}, which is not safe; nothing was fetched"
        )


def fetch(
    snapshots: Sequence[Snapshot],
    progress: Progress | None = None,
    before_weights: Callable[[], None] | None = None,
) -> list[Path]:
    """Fetch the missing files of some repos, and verify them.

    Args:
        snapshots: everything needed, so that disk space is checked before the first byte.
        progress: called with a label, the bytes done and the total bytes, over all repos.
        before_weights: called once all other files are here; may raise to stop the download.

    Returns:
        The folder of each snapshot.

    Raises:
        ModelError: a file could not be fetched, or its checksum is wrong.
    """
    _sweep(snapshots, say=True)
    missing = [(snapshot, file) for snapshot in snapshots for file in snapshot.missing]
    missing.sort(key=lambda one: cache.is_weights(one[1].name))
    disk_space.require(wanted(snapshots))
    what = " + ".join(snapshot.repo.rpartition("/")[2] for snapshot in snapshots)
    total = sum(snapshot.bytes for snapshot in snapshots)
    done = total - sum(file.bytes for _, file in missing)
    for snapshot, file in missing:
        if before_weights and cache.is_weights(file.name):
            before_weights()
            before_weights = None
        count = transfer.counted(progress, what, done, done + file.bytes, total)
        _fetch_file(snapshot, file, count)
        done += file.bytes
    for snapshot in snapshots:
        cache.make_findable(snapshot)
    _sweep(snapshots, say=False)
    return [snapshot.folder for snapshot in snapshots]


def wanted(snapshots: Sequence[Snapshot]) -> list[Wanted]:
    """Return the disk space that the missing files of some repos need."""
    folder = cache.cache()
    lacking = [(one.repo, sum(file.bytes for file in one.missing)) for one in snapshots]
    return [Wanted(repo, size, folder, "HF_HOME") for repo, size in lacking]


def _sweep(snapshots: Sequence[Snapshot], say: bool) -> None:
    for repo in dict.fromkeys(snapshot.repo for snapshot in snapshots):
        if cache.sweep(repo) and say:
            LOG.warning("%s: a download was interrupted; its last file starts again", repo)


def _fetch_file(snapshot: Snapshot, file: HubFile, count: Callable[[int], None]) -> None:
    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/{snapshot.repo}/resolve/{snapshot.revision}/{quote(file.name)}"
    with explained(snapshot.repo, snapshot.asked):
        blob = snapshot.blob(file)
        with locked(cache.lock_file(snapshot.repo, blob.name)):
            for _ in range(2):
                if cache.holds(blob, file):  # fetched just now, or by another process
                    break
                transfer.receive(url, blob, file.bytes, count)
            if not cache.holds(blob, file):
                blob.unlink()
                raise ModelError(
                    f"{snapshot.repo}: {file.name} was downloaded twice with a wrong checksum; "
                    "the file was discarded; "
                    f"{try_again(snapshot.repo, snapshot.asked)}"
                )
            cache.link(snapshot, file)
    count(file.bytes)
