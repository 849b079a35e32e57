"""Models from the hub: looked up, fetched with huggingface_hub, checked, and found again offline.

Files come one after the other, in the caller's thread: Ctrl-C ends a download at once. What a kill
costs is the file that was on its way; the next download starts it again, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import hub_files, space, store
from .checksums import SHA256
from .errors import ModelError, UnsuitableError
from .hub_errors import (
    LOG,
    download_may_pass,
    explained,
    look_up_may_pass,
    patiently,
    try_again,
    warn_of_plain_http,
)
from .hub_files import COMMIT, MAIN, HubFile, Snapshot
from .hub_transfer import bar, counted, plain_http
from .packages import Progress
from .space import Wanted

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo


def kept(repo: str, revision: str | None = None) -> Path | None:
    """The folder of a repo if all of it is here and every large file is what the hub says.

    It needs no network, and the cache may be read-only.

    Args:
        revision: a branch, tag or commit; the main branch if None.
    """
    asked = _checked_revision(repo, revision)
    for snapshot in hub_files.known(repo, asked):
        if not snapshot.missing:
            return snapshot.folder
    return None


def commits(repo: str, revision: str | None = None) -> list[str]:
    """The commits that a branch, tag or commit stands for on this machine, best first."""
    return hub_files.commits(repo, _checked_revision(repo, revision))


def is_offline() -> bool:
    """Whether nothing may be asked of the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def look_up(repo: str, revision: str | None = None) -> Snapshot:
    """Ask the hub what there is to fetch of a repo.

    Raises:
        ModelError: there is no such repo or revision, it cannot be had, or it holds no weights
            of a kind that is loaded.
    """
    from huggingface_hub import HfApi, constants

    asked = _checked_revision(repo, revision)
    warn_of_plain_http()
    with explained(repo, asked):
        info = patiently(
            lambda: HfApi().model_info(
                repo,
                revision=asked,
                files_metadata=True,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
            ),
            look_up_may_pass,
        )
        snapshot = _snapshot(repo, asked, info)
    hub_files.remember(snapshot)
    return snapshot


def _checked_revision(repo: str, revision: str | None) -> str:
    asked = MAIN if revision is None else revision
    if not asked or asked.startswith("/") or ".." in asked:
        raise ModelError(f"{repo} can have no revision {asked!r}")
    return asked


def _snapshot(repo: str, asked: str, info: ModelInfo) -> Snapshot:
    commit, listed = info.sha or "", info.siblings or []
    if not COMMIT.match(commit):
        raise ValueError(f"{commit!r} is no commit")
    files = []
    for one in listed:
        _refuse_odd_name(repo, one.rfilename)
        if hub_files.is_wanted(one.rfilename):
            size, sha256 = (one.lfs.size, one.lfs.sha256) if one.lfs else (one.size, None)
            if size is None or (sha256 is not None and not SHA256.match(sha256)):
                raise ValueError(f"no size or no SHA-256 of {one.rfilename}")
            files.append(HubFile(one.rfilename, size, sha256))
    if not any(hub_files.is_weights(file.name) for file in files):
        raise UnsuitableError(
            f"{repo} has no {store.WEIGHTS}; no other kind of weights is loaded from the hub"
        )
    if lacking := [name for name in store.REQUIRED if name not in {file.name for file in files}]:
        raise UnsuitableError(
            f"{repo} has no {' and no '.join(lacking)}, so it cannot be loaded; choose another repo"
        )
    files.sort(key=lambda f: (hub_files.is_weights(f.name), f.sha256 is not None, f.name))
    return Snapshot(repo, commit, tuple(files), asked)


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
    """Fetch what is missing of some repos, and check it.

    Args:
        snapshots: all that is needed, so that it is known to fit the disk before the first byte.
        progress: called with what is fetched, bytes done and bytes in all, over all repos.
        before_weights: called when all other files are here; it may raise what is wrong with them.

    Returns:
        The folder of each snapshot.

    Raises:
        ModelError: a file could not be had, or is not what the hub says.
    """
    _sweep(snapshots, say=True)
    missing = [(snapshot, file) for snapshot in snapshots for file in snapshot.missing]
    missing.sort(key=lambda one: hub_files.is_weights(one[1].name))
    space.require(wanted(snapshots))
    what = " + ".join(snapshot.repo.rpartition("/")[2] for snapshot in snapshots)
    total = sum(snapshot.bytes for snapshot in snapshots)
    done = total - sum(file.bytes for _, file in missing)
    with plain_http():
        for snapshot, file in missing:
            if before_weights and hub_files.is_weights(file.name):
                before_weights()
                before_weights = None
            _fetch_file(snapshot, file, counted(progress, what, done, done + file.bytes, total))
            done += file.bytes
    for snapshot in snapshots:
        hub_files.make_findable(snapshot)
    _sweep(snapshots, say=False)
    return [snapshot.folder for snapshot in snapshots]


def wanted(snapshots: Sequence[Snapshot]) -> list[Wanted]:
    """The room that is needed for what is missing of some repos."""
    cache = hub_files.cache()
    lacking = [(one.repo, sum(file.bytes for file in one.missing)) for one in snapshots]
    return [Wanted(repo, size, cache, "HF_HOME") for repo, size in lacking]


def _sweep(snapshots: Sequence[Snapshot], say: bool) -> None:
    for repo in dict.fromkeys(snapshot.repo for snapshot in snapshots):
        if hub_files.sweep(repo) and say:
            LOG.warning("%s: a download was cut off; the file it was at starts again", repo)


def _fetch_file(snapshot: Snapshot, file: HubFile, count: Callable[[int], None]) -> None:
    from huggingface_hub import hf_hub_download

    folder, shown = snapshot.folder, bar(count)
    with explained(snapshot.repo, snapshot.asked):
        for _ in range(2):
            if hub_files.is_whole(folder, file):  # here, or from another process meanwhile
                break
            hub_files.discard(folder / file.name)
            patiently(
                lambda: hf_hub_download(
                    snapshot.repo, file.name, revision=snapshot.revision, tqdm_class=shown
                ),
                download_may_pass,
            )
        if not hub_files.is_whole(folder, file):
            hub_files.discard(folder / file.name)
            raise ModelError(
                f"{snapshot.repo}: {file.name} came twice and was not what the hub has on record "
                "(size or SHA-256 differs); nothing of it was kept; "
                f"{try_again(snapshot.repo, snapshot.asked)}"
            )
    count(file.bytes)
