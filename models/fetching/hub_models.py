"""Locate hub models: find them in the cache or fetch them, and quantize unquantized ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..catalogue import entries
from ..errors import ModelError
from ..hub.cache import COMMIT, Snapshot
from ..hub.errors import LOG
from ..inventory import listing
from ..loading.config_json import is_quantized
from ..loading.quantize import Quantization, convert, converted_bytes, quantization_of
from ..progress import Progress
from ..storage import disk_space, manifest, paths
from ..storage.atomic_folders import working_on
from ..storage.disk_space import Wanted
from ..storage.local_model import LocalModel, repair_named


@dataclass(frozen=True)
class HubRepo:
    """A requested hub repo.

    Attributes:
        name: the name it was requested by.
        repo: the repo id, ``owner/name``.
        revision: a branch, tag or commit; the main branch if None.
        quantization: the default quantization of unquantized weights.
    """

    name: str
    repo: str
    revision: str | None
    quantization: Quantization


@dataclass(frozen=True)
class _Plan:
    """The folder of a repo, or the snapshot to fetch, and the quantization to apply."""

    asked: HubRepo
    found: Path | Snapshot
    quantization: Quantization

    @property
    def folder(self) -> Path:
        """The folder; it may not exist yet."""
        return self.found if isinstance(self.found, Path) else self.found.folder


def locate_repos(
    asked: Sequence[HubRepo],
    also: Sequence[Wanted] = (),
    progress: Progress | None = None,
    quantization: Quantization | None = None,
    update: bool = False,
) -> dict[HubRepo, LocalModel]:
    """Return the models of hub repos; missing files of all of them are fetched in one go.

    Args:
        asked: the repos.
        also: other files that will be written, to be included in the check of disk space.
        progress: called with a label, the bytes done and the total bytes.
        quantization: the quantization to apply; if None, the same as before, else each default.
        update: ask the hub for the newest commit of repos that are already here.

    Raises:
        ModelError: one of them cannot be fetched, or is of an unsupported kind.
    """
    from ..hub import client

    plans = [_planned(one, quantization, update) for one in asked]
    missing = [plan.found for plan in plans if isinstance(plan.found, Snapshot)]
    missing = list(dict.fromkeys(missing))  # a repo may be requested by two names

    def before_weights() -> None:
        from ..loading.preflight import check_description

        for snapshot in missing:
            check_description(snapshot.folder)
        _require_space(plans, missing, also)

    _require_space(plans, missing, also)
    fetched = client.fetch(missing, progress, before_weights) if missing else []
    folders = dict(zip(missing, fetched, strict=True))
    return {
        plan.asked: _quantized(
            plan.asked,
            plan.found if isinstance(plan.found, Path) else folders[plan.found],
            plan.quantization,
            progress,
        )
        for plan in plans
    }


def is_kept(one: HubRepo) -> bool:
    """Return True if the complete repo, or a quantized copy of it, is on this machine."""
    return _here(one, None) is not None


def _planned(one: HubRepo, quantization: Quantization | None, update: bool) -> _Plan:
    """Find the folder of a repo on this machine, else the hub's snapshot to fetch."""
    from ..hub import client

    pinned = one.revision is not None and COMMIT.match(one.revision)
    here = _here(one, quantization)
    is_copy = here is not None and here.parent == paths.models_folder()
    before = quantization_of(here) if here is not None and is_copy else None
    wanted = quantization or before or one.quantization
    if here is not None and (pinned or not update or client.is_offline()):
        return _Plan(one, here, wanted)
    try:
        snapshot = client.look_up(one.repo, one.revision)
    except ModelError as error:
        if here is None:
            raise type(error)(f"{error}{_near_repo(one)}") from error
        LOG.warning("%s; the local copy is used", error)
        return _Plan(one, here, wanted)
    made = listing.conversion(one.repo, snapshot.revision, quantization)
    return _Plan(one, made.folder if made else snapshot, wanted)


def _require_space(
    plans: Sequence[_Plan], missing: Sequence[Snapshot], also: Sequence[Wanted]
) -> None:
    """Raise if the files to write, including known quantized copies, do not fit the disk."""
    from ..hub import client

    copies = [copy for plan in plans if (copy := _copy_wanted(plan)) is not None]
    disk_space.require([*also, *client.wanted(missing), *copies])


def _here(one: HubRepo, quantization: Quantization | None) -> Path | None:
    """Return the best commit's quantized copy, else its complete snapshot; works offline."""
    from ..hub import client

    snapshot: Path | None = None
    for n, commit in enumerate(client.commits(one.repo, one.revision)):
        if made := listing.conversion(one.repo, commit, quantization):
            return made.folder
        snapshot = client.kept(one.repo, one.revision) if n == 0 else snapshot
        if snapshot is not None and snapshot.name == commit:
            return snapshot
    return None


def _near_repo(one: HubRepo) -> str:
    """Return a "did you mean" hint with a similar repo of the catalogue, or nothing."""
    models = entries.models().values()
    known = {entry.repo: entry for entry in models if isinstance(entry, entries.HubModel)}
    hint = "" if one.repo in known else entries.hint(one.repo, known)
    return hint if "did you mean" in hint else ""


def _copy_wanted(plan: _Plan) -> Wanted | None:
    """Return the disk space for a quantized copy; None if none is made, or that is unknown."""
    try:
        if not (plan.folder / "config.json").is_file() or is_quantized(plan.folder):
            return None
    except ModelError:
        return None  # reported when the model is opened
    files = {path.name: path.stat().st_size for path in plan.folder.iterdir() if path.is_file()}
    if isinstance(plan.found, Snapshot):
        files |= {file.name: file.bytes for file in plan.found.files}
    weights = sum(size for name, size in files.items() if name.endswith(".safetensors"))
    size = converted_bytes(weights, sum(files.values()) - weights, plan.quantization)
    return Wanted(f"quantizing {plan.asked.name}", size, paths.models_folder(), "BLENDIN_HOME")


def _quantized(
    asked: HubRepo, folder: Path, quantization: Quantization, progress: Progress | None
) -> LocalModel:
    """Return the model in `folder`; quantize it first if its weights are not quantized."""
    from ..loading.loader import check_folder

    record = manifest.read(folder) if folder.parent == paths.models_folder() else None
    revision = folder.name if record is None else record.revision
    whole = LocalModel(asked.name, folder, revision, asked.name)
    with repair_named(whole):
        check_folder(folder)
        if is_quantized(folder):
            return whole
    target = paths.model_folder(converted_name(asked.repo, folder.name, quantization))
    with working_on(target.name):
        if not paths.looks_like_model(target):  # another process may have created it meanwhile
            settings = {"bits": quantization.bits, "group_size": quantization.group_size}
            made = manifest.Manifest(asked.repo, revision, settings)
            report = progress and partial(progress, f"{asked.name}, to {quantization.bits} bits")
            convert(folder, target, quantization, made, report)
    return LocalModel(asked.name, target, revision, asked.name)


def converted_name(repo: str, revision: str, quantization: Quantization) -> str:
    """Return the folder name of a quantized hub model."""
    owner, _, name = repo.partition("/")
    kind = f"{quantization.bits}bit-g{quantization.group_size}"
    return f"{owner}--{name}-{revision[:8]}-{kind}"
