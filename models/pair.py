"""Both models of a pair: located, checked, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .catalogue import entries
from .fetching.resolve import locate_all
from .progress import Progress
from .storage.local_model import Located, repair_named

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel, Pair

    from .loading.memory import Need
    from .loading.preflight import Preflight

TOKENS = 4096  # the longest conversation that is reckoned with, if nothing else is said


@dataclass(frozen=True)
class CheckedPair:
    """Models that can be loaded, and what they take together.

    Attributes:
        models: the base, the aligned model, and its reference if there is one.
        reports: of each of them.
    """

    models: tuple[Located, ...]
    reports: tuple[Preflight, ...]
    need: Need


def check_pair(
    pair: str | None = None,
    base: str | None = None,
    aligned: str | None = None,
    progress: Progress | None = None,
    *,
    reference: str | None = None,
    tokens: int = TOKENS,
    force: bool = False,
    kv_bits: int | None = None,
) -> CheckedPair:
    """Find the models, fetching them where need be, and check them before a weight is read.

    Args:
        pair: a name of the catalogue; with it, ``base`` or ``aligned`` replaces its side.
        reference: the aligned model's unaligned twin, for methods that need one.
        tokens: how long the longest conversation will be.
        force: go on where the memory does not suffice.
        kv_bits: what the caches will be quantized to, 4 or 8; None for not at all.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: they do not fit.
        ValueError: one side is not named, or ``kv_bits`` is neither 4 nor 8.
    """
    from .loading.loader import check_folder
    from .loading.memory import check_memory
    from .loading.preflight import KV_BITS, inspect_located

    if kv_bits not in (None, *KV_BITS):
        raise ValueError(f"kv_bits must be 4 or 8, not {kv_bits}")
    if pair is not None:
        entry = entries.find_pair(pair)
        base, aligned = base or entry.base, aligned or entry.aligned
    if base is None or aligned is None:
        raise ValueError("name a pair, or both a base and an aligned model")
    names = (base, aligned) if reference is None else (base, aligned, reference)
    located = locate_all(names, progress)
    for one in located:  # all, before the first of them takes its time
        with repair_named(one):
            check_folder(one.folder)
    # Tokenizers are opened right after this.
    reports = []
    for one in located:
        if progress:
            progress(f"checking {one.name}", 0, 0)
        reports.append(inspect_located(one, tokenizer=False))
    need = check_memory(reports, tokens, force, kv_bits)
    return CheckedPair(tuple(located), tuple(reports), need)


def require_usable(
    checked: CheckedPair, opened: Pair, tokens: int, kv_bits: int | None = None
) -> None:
    """Refuse a pair that cannot hold a conversation of that length as it is.

    Raises:
        PairError: the aligned model has no chat template, or a model reads fewer tokens.
        MemoryNeededError: they do not fit.
    """
    from blendin_mlx.errors import PairError

    from .loading.memory import check_memory

    opened.require_chat_template()
    for one, report in zip(checked.models, checked.reports, strict=True):
        limit = report.context_limit
        if limit is not None and tokens > limit:
            raise PairError(f"{one.name} reads {limit} tokens at most, not {tokens}")
    check_memory(checked.reports, tokens, kv_bits=kv_bits)


def open_pair(checked: CheckedPair, progress: Progress | None = None) -> Pair:
    """The models with their tokenizers; their weights are read when they are first needed."""
    from blendin_mlx.model import Pair

    opened: dict[Path, LanguageModel] = {}
    for one in checked.models:
        folder = one.folder.resolve()
        if progress:
            progress(f"reading the tokenizer of {one.name}", 0, 0)
        opened[folder] = opened.get(folder) or _open(one)  # one folder, one model
    base, aligned, *twin = (opened[one.folder.resolve()] for one in checked.models)
    return Pair(base, aligned, twin[0] if twin else None)


def load_pair(
    pair: str | None = None,
    base: str | None = None,
    aligned: str | None = None,
    progress: Progress | None = None,
    *,
    reference: str | None = None,
    tokens: int = TOKENS,
    force: bool = False,
    kv_bits: int | None = None,
    needs_chat_template: bool = False,
) -> Pair:
    """Load both models of a catalogue pair, or of two names (see :func:`check_pair`).

    Args:
        needs_chat_template: refuse an aligned model without one before any weight is read; False
            where prompts will come with a template of their own.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: they do not fit.
        PairError: the aligned model has no chat template, and one is needed.
        ValueError: one side is not named, or ``kv_bits`` is neither 4 nor 8.

    Example:
        >>> load_pair("demo")
        >>> load_pair(base="HuggingFaceTB/SmolLM2-360M", aligned="smollm2-135m-instruct")
    """
    from functools import partial

    from .loading.loader import evaluate_weights

    checked = check_pair(
        pair,
        base,
        aligned,
        progress,
        reference=reference,
        tokens=tokens,
        force=force,
        kv_bits=kv_bits,
    )
    opened = open_pair(checked, progress)
    if needs_chat_template:
        opened.require_chat_template()
    for model in filter(None, (opened.base, opened.aligned, opened.reference)):
        evaluate_weights(model.network, progress and partial(progress, f"loading {model.name}"))
    return opened


def _open(located: Located) -> LanguageModel:
    from .loading.loader import open_model

    with repair_named(located):
        return open_model(located.folder, located.name, located.revision)


@dataclass(frozen=True)
class Relation:
    """Two vocabularies compared by what their tokens write.

    Attributes:
        kind: ``same`` ids write the same bytes; ``padded``: the same, but for the number of logits.
        shared: share of the guide's writing tokens that the base has too.
    """

    kind: Literal["same", "padded", "different"]
    shared: float


def relation(pair: Pair) -> Relation:
    """Compare the vocabularies of a pair; no weight is read.

    Raises:
        PairError: a tokenizer whose tokens have no known bytes, or no stop token.
    """
    from blendin_mlx.tokens.projection import same_vocabulary

    base, aligned = pair.base.vocabulary, pair.aligned.vocabulary
    known = set(base.token_bytes)
    writing = [written for written in aligned.token_bytes if written]
    shared = sum(written in known for written in writing) / max(1, len(writing))
    if not same_vocabulary(base, aligned):
        return Relation("different", shared)
    equal = pair.base.logit_size == pair.aligned.logit_size
    return Relation("same" if equal else "padded", shared)
