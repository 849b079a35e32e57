"""Both models of a pair: located, checked, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import catalogue
from .install import Progress
from .resolve import Located, locate_all, repair_named

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel, Pair

    from .memory import Need
    from .preflight import Preflight

TOKENS = 4096  # the longest conversation that is reckoned with, if nothing else is said


@dataclass(frozen=True)
class CheckedPair:
    """Two models that can be loaded, and what they take together."""

    base: Located
    aligned: Located
    reports: tuple[Preflight, Preflight]
    need: Need


def check_pair(
    pair: str | None = None,
    base: str | None = None,
    aligned: str | None = None,
    progress: Progress | None = None,
    *,
    tokens: int = TOKENS,
    force: bool = False,
    kv_bits: int | None = None,
) -> CheckedPair:
    """Find both models, fetching them where need be, and check them before a weight is read.

    Args:
        pair: a name of the catalogue; with it, ``base`` or ``aligned`` replaces its side.
        tokens: how long the longest conversation will be.
        force: go on where the memory does not suffice.
        kv_bits: what both caches will be quantized to, 4 or 8; None for not at all.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: both do not fit.
        ValueError: one side is not named, or ``kv_bits`` is neither 4 nor 8.
    """
    from .loading import check_folder
    from .memory import check_memory
    from .preflight import KV_BITS, inspect

    if kv_bits not in (None, *KV_BITS):
        raise ValueError(f"kv_bits must be 4 or 8, not {kv_bits}")
    if pair is not None:
        entry = catalogue.find_pair(pair)
        base, aligned = base or entry.base, aligned or entry.aligned
    if base is None or aligned is None:
        raise ValueError("name a pair, or both a base and an aligned model")
    first, second = located = locate_all((base, aligned), progress)
    for one in located:  # both, before the first of them takes its time
        with repair_named(one):
            check_folder(one.folder)
    reports = []
    for one in located:
        with repair_named(one):
            reports.append(inspect(one.folder, tokenizer=False))  # opened right after this
    need = check_memory(reports[0], reports[1], tokens, force, kv_bits)
    return CheckedPair(first, second, (reports[0], reports[1]), need)


def open_pair(checked: CheckedPair) -> Pair:
    """Both models with their tokenizers; their weights are read when they are first needed."""
    from blendin_mlx.model import Pair

    base = _open(checked.base)
    if checked.base.folder.resolve() == checked.aligned.folder.resolve():
        return Pair(base=base, aligned=base)
    return Pair(base=base, aligned=_open(checked.aligned))


def load_pair(
    pair: str | None = None,
    base: str | None = None,
    aligned: str | None = None,
    progress: Progress | None = None,
    *,
    tokens: int = TOKENS,
    force: bool = False,
    kv_bits: int | None = None,
) -> Pair:
    """Load both models of a catalogue pair, or of two names (see :func:`check_pair`).

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: both do not fit.
        ValueError: one side is not named, or ``kv_bits`` is neither 4 nor 8.

    Example:
        >>> load_pair("demo")
        >>> load_pair(base="HuggingFaceTB/SmolLM2-360M", aligned="smollm2-135m-instruct")
    """
    from functools import partial

    from .loading import evaluate_weights

    checked = check_pair(pair, base, aligned, progress, tokens=tokens, force=force, kv_bits=kv_bits)
    opened = open_pair(checked)
    for model in (opened.base, opened.aligned):
        evaluate_weights(model.network, progress and partial(progress, f"{model.name}, load"))
    return opened


def _open(located: Located) -> LanguageModel:
    from .loading import open_model

    with repair_named(located):
        return open_model(located.folder, located.name, located.revision)
