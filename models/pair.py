"""Both models of a pair: located, checked, loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import catalogue
from .install import Progress
from .resolve import Located, locate_all, repair_named

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel, Pair


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
        base, aligned = base or entry.base, aligned or entry.aligned
    if base is None or aligned is None:
        raise ValueError("name a pair, or both a base and an aligned model")
    first, second = locate_all((base, aligned), progress)
    for located in (first, second):
        with repair_named(located):
            check_folder(located.folder)  # both, before the first of them takes its time
    if first.folder.resolve() == second.folder.resolve():
        model = _load(first, progress)
        return Pair(base=model, aligned=model)
    return Pair(base=_load(first, progress), aligned=_load(second, progress))


def _load(located: Located, progress: Progress | None) -> LanguageModel:
    from .loading import load_model

    with repair_named(located):
        return load_model(located.folder, located.name, located.revision, progress)
