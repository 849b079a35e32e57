"""From a name to a model: a catalogue name, a folder, or a hub repo id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import catalogue, store
from .errors import ModelError, first_line
from .install import Progress, install

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel, Pair

REPO_ID = re.compile(r"[\w.-]+/[\w.-]+\Z")
# What a hub repo may bring in. Never code, never pickles.
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"]


@dataclass(frozen=True)
class Located:
    """A model that is on this machine, and where it came from."""

    name: str
    folder: Path
    revision: str | None = None


def locate(name: str, progress: Progress | None = None) -> Located:
    """Find a model, fetching it first where it is known but not here.

    Raises:
        ModelError: nothing has that name, or it could not be fetched.
    """
    if name in catalogue.models():
        return Located(name, install(catalogue.models()[name], progress))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Located(folder.resolve().name, folder)
    if store.NAME.match(name) and store.model_folder(name).is_dir():
        return Located(name, store.model_folder(name))
    if REPO_ID.match(name) and not name.startswith("."):
        return _from_hub(name)
    hint = catalogue.hint(name, catalogue.models())
    raise ModelError(f"{name!r} is no folder, no hub repo id and no known model{hint}")


def _from_hub(repo: str) -> Located:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, allow_patterns=HUB_FILES))
    except Exception as error:
        reason = first_line(error)
        raise ModelError(
            f"{repo} is no folder and could not be fetched from the hub: {reason}"
        ) from error
    return Located(repo, folder, revision=folder.name)


def load_pair(
    pair: str | None = None,
    base: str | None = None,
    aligned: str | None = None,
    progress: Progress | None = None,
) -> Pair:
    """Load both models of a catalogue pair, or of two names; with both, a name replaces its side.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        ValueError: one side is not named.

    Example:
        >>> load_pair("demo")
        >>> load_pair(base="HuggingFaceTB/SmolLM2-360M", aligned="smollm2-135m-instruct")
    """
    from blendin_mlx.model import Pair

    from .loading import check_folder

    if pair is not None:
        entry = catalogue.find_pair(pair)
        base, aligned = base or entry.base.name, aligned or entry.aligned.name
    if base is None or aligned is None:
        raise ValueError("name a pair, or both a base and an aligned model")
    first, second = locate(base, progress), locate(aligned, progress)
    for located in (first, second):
        with _repair_named(located):
            check_folder(located.folder)  # both, before the first of them takes its time
    if first.folder.resolve() == second.folder.resolve():
        model = _load(first, progress)
        return Pair(base=model, aligned=model)
    return Pair(base=_load(first, progress), aligned=_load(second, progress))


def _load(located: Located, progress: Progress | None) -> LanguageModel:
    from .loading import load_model

    with _repair_named(located):
        return load_model(located.folder, located.name, located.revision, progress)


@contextmanager
def _repair_named(located: Located) -> Iterator[None]:
    """An error about a model that can be fetched again says how."""
    try:
        yield
    except ModelError as error:
        if located.name not in catalogue.models():
            raise
        repair = f"blendin models remove {located.name} && blendin models pull {located.name}"
        raise ModelError(f"{error}; repair it: {repair}") from error
