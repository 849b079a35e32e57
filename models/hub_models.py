"""Models of the hub that are asked for: found here, or fetched; unquantized ones made smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import catalogue, inventory, manifest, space, store
from .building import working_on
from .configs import is_quantized
from .convert import Quantization, convert, converted_bytes
from .errors import ModelError
from .hub_errors import LOG
from .hub_files import COMMIT, Snapshot
from .located import Located, repair_named
from .space import Wanted

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class HubRepo:
    """A hub repo that is asked for.

    Attributes:
        name: as it was asked for.
        quantization: what it is made smaller to, if nobody says otherwise.
    """

    name: str
    repo: str
    revision: str | None
    quantization: Quantization


def locate_repos(
    asked: Sequence[HubRepo],
    also: Sequence[Wanted] = (),
    progress: Progress | None = None,
    quantization: Quantization | None = None,
    update: bool = False,
) -> dict[HubRepo, Located]:
    """The models of hub repos; what is missing of all of them is fetched together.

    Args:
        also: what else will be written, so that all of it is known to fit the disk.
        quantization: as they must be quantized; if None, as they were before.
        update: ask the hub for the newest commit of what is here already.

    Raises:
        ModelError: one of them cannot be had, or can never be loaded.
    """
    from . import hub
    from .preflight import check_description

    folders: dict[HubRepo, Path] = {}
    snapshots: dict[HubRepo, Snapshot] = {}
    for one in asked:
        found = _find(one, quantization, update)
        if isinstance(found, Path):
            folders[one] = found
        else:
            snapshots[one] = found

    missing = list(dict.fromkeys(snapshots.values()))

    def require_space() -> None:
        """Refuse what will not fit, quantized copies included where it is known that some come."""
        here = {**{one: snapshot.folder for one, snapshot in snapshots.items()}, **folders}
        copies = [_copy_wanted(one, here[one], snapshots.get(one), quantization) for one in here]
        space.require([*also, *hub.wanted(missing), *filter(None, copies)])

    def before_weights() -> None:
        for snapshot in missing:
            check_description(snapshot.folder)
        require_space()

    require_space()
    fetched = hub.fetch(missing, progress, before_weights) if missing else []
    fresh = dict(zip(missing, fetched, strict=True))
    folders.update((one, fresh[snapshot]) for one, snapshot in snapshots.items())
    return {one: _made_smaller(one, folders[one], quantization, progress) for one in asked}


def _find(one: HubRepo, quantization: Quantization | None, update: bool) -> Path | Snapshot:
    """A folder that is here, or what the hub has to be fetched."""
    from . import hub

    pinned = one.revision is not None and COMMIT.match(one.revision)
    here = _here(one, quantization)
    if here is not None and (pinned or not update or hub.is_offline()):
        return here
    try:
        snapshot = hub.look_up(one.repo, one.revision)
    except ModelError as error:
        if here is None:
            raise type(error)(f"{error}{_near_repo(one)}") from error
        LOG.warning("%s; what is here is used", error)
        return here
    made = inventory.conversion(one.repo, snapshot.revision, quantization)
    return made.folder if made else snapshot


def _here(one: HubRepo, quantization: Quantization | None) -> Path | None:
    """The quantized copy of the best commit, else its whole snapshot; no network is needed."""
    from . import hub

    snapshot: Path | None = None
    for n, commit in enumerate(hub.commits(one.repo, one.revision)):
        if made := inventory.conversion(one.repo, commit, quantization):
            return made.folder
        snapshot = hub.kept(one.repo, one.revision) if n == 0 else snapshot
        if snapshot is not None and snapshot.name == commit:
            return snapshot
    return None


def _near_repo(one: HubRepo) -> str:
    """Which repo of the catalogue may have been meant."""
    entries = catalogue.models().values()
    known = {entry.repo: entry for entry in entries if isinstance(entry, catalogue.HubModel)}
    hint = "" if one.repo in known else catalogue.hint(one.repo, known)
    return hint if "did you mean" in hint else ""


def _copy_wanted(
    one: HubRepo, folder: Path, snapshot: Snapshot | None, quantization: Quantization | None
) -> Wanted | None:
    """The room that a quantized copy will take; None where none will be made, or nobody knows."""
    try:
        if not (folder / "config.json").is_file() or is_quantized(folder):
            return None
    except ModelError:
        return None  # it is said where the model is opened
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    files |= {file.name: file.bytes for file in snapshot.files} if snapshot else {}
    weights = sum(size for name, size in files.items() if name.endswith(".safetensors"))
    size = converted_bytes(weights, sum(files.values()) - weights, quantization or one.quantization)
    return Wanted(f"quantizing {one.name}", size, store.models_folder(), "BLENDIN_HOME")


def _made_smaller(
    asked: HubRepo, folder: Path, quantization: Quantization | None, progress: Progress | None
) -> Located:
    """The model of a folder, made smaller first if its weights are not quantized."""
    from .loading import check_folder

    record = manifest.read(folder) if folder.parent == store.models_folder() else None
    revision = folder.name if record is None else record.revision
    whole = Located(asked.name, folder, revision, asked.name)
    with repair_named(whole):
        check_folder(folder)
        if is_quantized(folder):
            return whole
    quantization = quantization or asked.quantization
    target = store.model_folder(converted_name(asked.repo, folder.name, quantization))
    with working_on(target.name):
        if not store.looks_like_model(target):  # another process may have made it meanwhile
            settings = {"bits": quantization.bits, "group_size": quantization.group_size}
            made = manifest.Manifest(asked.repo, revision, settings)
            report = progress and partial(progress, f"{asked.name}, to {quantization.bits} bits")
            convert(folder, target, quantization, made, report)
    return Located(asked.name, target, revision, asked.name)


def converted_name(repo: str, revision: str, quantization: Quantization) -> str:
    """The name under which a quantized hub model is kept."""
    owner, _, name = repo.partition("/")
    kind = f"{quantization.bits}bit-g{quantization.group_size}"
    return f"{owner}--{name}-{revision[:8]}-{kind}"
