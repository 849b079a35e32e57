"""Locate, check and load the models of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .catalogue import entries
from .fetching.resolve import locate_all
from .kept_phi import kept_phi
from .progress import Progress
from .storage.local_model import LocalModel, repair_named

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel, Pair

    from .loading.preflight import Preflight

TOKENS = 4096  # the longest conversation that memory is checked for by default


@dataclass(frozen=True, kw_only=True)
class PairSpec:
    """The models of a pair, and what they must be able to do.

    Args:
        pair: a pair of the catalogue.
        base: the base model, instead of the pair's: a catalogue name, a hub repo id or a folder.
        aligned: the aligned model, likewise; without ``pair`` both are needed.
        reference: the aligned model's unaligned twin, for methods that need one.
        tokens: length of the longest conversation, in tokens.
        kv_bits: bits that the caches are quantized to, 4 or 8; None: not quantized.
        force: load models that do not fit the memory.
        needs_chat_template: refuse an aligned model without a chat template before any weight is
            read; False if prompts bring their own template.

    Raises:
        ValueError: one side is not named, or ``kv_bits`` is neither 4 nor 8.

    Example:
        >>> PairSpec(base="HuggingFaceTB/SmolLM2-360M", aligned="smollm2-135m-instruct")
    """

    pair: str | None = None
    base: str | None = None
    aligned: str | None = None
    reference: str | None = None
    tokens: int = TOKENS
    kv_bits: int | None = None
    force: bool = False
    needs_chat_template: bool = False

    def __post_init__(self) -> None:
        if self.kv_bits not in (None, 4, 8):
            raise ValueError(f"kv_bits must be 4 or 8, not {self.kv_bits}")
        if self.pair is None and (self.base is None or self.aligned is None):
            raise ValueError("name a pair, or both a base and an aligned model")

    def names(self) -> tuple[str, ...]:
        """Return the names of the base, the aligned model, and the reference if there is one.

        Raises:
            ModelError: no pair has that name.
        """
        base, aligned = self.base, self.aligned
        if self.pair is not None:
            entry = entries.find_pair(self.pair)
            base, aligned = base or entry.base, aligned or entry.aligned
        return tuple(name for name in (base, aligned, self.reference) if name is not None)


@dataclass(frozen=True)
class CheckedPair:
    """Models that passed all checks.

    Attributes:
        spec: the models that were asked for.
        models: the base, the aligned model, and its reference if there is one.
        reports: the result of the checks, for each of them.
    """

    spec: PairSpec
    models: tuple[LocalModel, ...]
    reports: tuple[Preflight, ...]


def check_pair(
    spec: PairSpec, progress: Progress | None = None, base_only: bool = False
) -> CheckedPair:
    """Find the models, fetching missing ones, and check them before any weight is read.

    Args:
        spec: the models.
        progress: called with a label, the bytes done and the total bytes.
        base_only: whether only the base must fit the memory: the others run elsewhere.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: the models do not fit the memory.
        PairError: the aligned model has no chat template, and one is needed.
    """
    from blendin_mlx.model import no_chat_template

    from .loading.memory import check_memory

    located, reports = check_models(spec.names(), progress)
    here = reports[:1] if base_only else reports
    check_memory(here, spec.tokens, spec.force, spec.kv_bits)
    if spec.needs_chat_template and not reports[1].has_chat_template:
        raise no_chat_template(located[1].name)
    return CheckedPair(spec, tuple(located), tuple(reports))


def check_models(
    names: Sequence[str], progress: Progress | None = None
) -> tuple[list[LocalModel], list[Preflight]]:
    """Find models, fetching missing ones, and check them before any weight is read.

    Args:
        names: of the models.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: a model is unknown, missing or damaged.
    """
    from .loading.loader import check_folder
    from .loading.preflight import inspect_located

    located = locate_all(names, progress)
    for one in located:  # the quick checks of all models first
        with repair_named(one):
            check_folder(one.folder)
    # Tokenizers are checked when they are opened, right after this.
    reports = []
    for one in located:
        if progress:
            progress(f"checking {one.name}", 0, 0)
        reports.append(inspect_located(one, tokenizer=False))
    return located, reports


def require_usable(checked: CheckedPair, opened: Pair, tokens: int) -> None:
    """Raise if a pair cannot hold a conversation of `tokens` tokens.

    Raises:
        PairError: the aligned model has no chat template, or a model's context is shorter.
        MemoryNeededError: the models do not fit the memory.
    """
    from blendin_mlx.errors import PairError

    from .loading.memory import check_memory

    opened.require_chat_template()
    for one, report in zip(checked.models, checked.reports, strict=True):
        limit = report.context_limit
        if limit is not None and tokens > limit:
            raise PairError(f"{one.name} reads {limit} tokens at most, not {tokens}")
    check_memory(checked.reports, tokens, kv_bits=checked.spec.kv_bits)


def open_pair(checked: CheckedPair, progress: Progress | None = None) -> Pair:
    """Open the models with their tokenizers; weights are loaded lazily."""
    from blendin_mlx.model import Pair

    opened: dict[Path, LanguageModel] = {}
    for one in checked.models:
        folder = one.folder.resolve()
        if progress:
            progress(f"reading the tokenizer of {one.name}", 0, 0)
        opened[folder] = opened.get(folder) or open_located(one)  # a folder is opened once
    base, aligned, *twin = (opened[one.folder.resolve()] for one in checked.models)
    return Pair(base, aligned, twin[0] if twin else None, kept_phi)


def load_pair(
    pair: str | None = None,
    *,
    base: str | None = None,
    aligned: str | None = None,
    needs_chat_template: bool = False,
    progress: Progress | None = None,
) -> Pair:
    """Load both models of a catalogue pair, or of two names (see :func:`check_pair`).

    Args:
        pair: a pair of the catalogue.
        base: the base model, instead of the pair's: a catalogue name, a hub repo id or a folder.
        aligned: the aligned model, likewise.
        needs_chat_template: refuse an aligned model without a chat template before any weight is
            read; False if prompts bring their own template.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: the models do not fit the memory.
        PairError: the aligned model has no chat template, and one is needed.
        ValueError: one side is not named.

    Example:
        >>> load_pair("demo")
        >>> load_pair(base="HuggingFaceTB/SmolLM2-360M", aligned="smollm2-135m-instruct")
    """
    spec = PairSpec(pair=pair, base=base, aligned=aligned, needs_chat_template=needs_chat_template)
    return load_spec(spec, progress)


def load_spec(spec: PairSpec, progress: Progress | None = None) -> Pair:
    """Load the models of a pair, with all weights in memory.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: the models do not fit the memory.
        PairError: the aligned model has no chat template, and one is needed.
    """
    from .loading.loader import read_weights

    opened = open_pair(check_pair(spec, progress), progress)
    for model in filter(None, (opened.base, opened.aligned, opened.reference)):
        read_weights(model, progress)
    return opened


def open_located(located: LocalModel) -> LanguageModel:
    """Open a model with its tokenizer; the error says how to repair it.

    Raises:
        ModelError: the folder cannot be loaded.
    """
    from .loading.loader import open_model

    with repair_named(located):
        return open_model(located.folder, located.name, located.revision)


@dataclass(frozen=True)
class Relation:
    """Result of comparing two vocabularies by the bytes of their tokens.

    Attributes:
        kind: ``same``: equal ids have equal bytes; ``padded``: the same, but for the number of
            logits; ``different``: neither.
        shared: share of the guide's tokens with bytes that the base has too, from 0 to 1.
    """

    kind: Literal["same", "padded", "different"]
    shared: float


def relation(pair: Pair) -> Relation:
    """Compare the vocabularies of a pair; no weight is read.

    Raises:
        PairError: the bytes of a tokenizer's tokens are unknown, or it has no stop token.
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
