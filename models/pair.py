"""Locate, check and load the models of a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .fetching.resolve import locate_all
from .kept_phi import kept_phi
from .pair_spec import TOKENS as TOKENS
from .pair_spec import PairSpec as PairSpec
from .progress import Progress
from .storage.local_model import LocalModel, repair_named

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel, Pair
    from blendin_mlx.roles import Role

    from .loading.preflight import Preflight


@dataclass(frozen=True)
class CheckedPair:
    """Models that passed all checks.

    Attributes:
        spec: the models that were asked for.
        models: the base, the aligned model, its reference if there is one, and further guides.
        reports: the result of the checks, for each of them.
    """

    spec: PairSpec
    models: tuple[LocalModel, ...]
    reports: tuple[Preflight, ...]

    @property
    def guides(self) -> tuple[LocalModel, ...]:
        """The aligned model and further guides."""
        return (self.models[1], *self.models[self.first_other :])

    def by_role(self) -> dict[Role, LocalModel]:
        """Return the models by role."""
        from blendin_mlx.roles import by_role

        base, aligned, *_ = self.models
        reference = self.models[2] if self.first_other == 3 else None
        return by_role(base, aligned, reference, self.models[self.first_other :])

    @property
    def first_other(self) -> int:
        """The place of the second guide, if there is one."""
        return 2 if self.spec.reference is None else 3


def check_pair(
    spec: PairSpec,
    progress: Progress | None = None,
    here: Callable[[list[Preflight]], list[Preflight]] = list,
) -> CheckedPair:
    """Find the models, fetching missing ones, and check them before any weight is read.

    Args:
        spec: the models.
        progress: called with a label, the bytes done and the total bytes.
        here: returns, of the reports, those on what runs on this machine and must fit it.

    Raises:
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: the models do not fit the memory.
        PairError: the aligned model has no chat template, and one is needed; or an adapter does not
            belong to its model.
    """
    from blendin_mlx.errors import no_chat_template

    from .loading.memory import check_memory

    located, reports = check_models(spec.parts(), progress)
    check_memory(here(reports), spec.tokens, spec.force, spec.kv_bits)
    checked = CheckedPair(spec, tuple(located), tuple(reports))
    for one, report in zip(located, reports, strict=True):
        if spec.needs_chat_template and one in checked.guides and not report.has_chat_template:
            raise no_chat_template(one.title)
    return checked


def check_models(
    parts: Sequence[tuple[str, Path | None]], progress: Progress | None = None
) -> tuple[list[LocalModel], list[Preflight]]:
    """Find models, fetching missing ones, and check them before any weight is read.

    Args:
        parts: the name of each, and the folder of the adapter that it gets.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: a model is unknown, missing or damaged, or an adapter does not fit it.
    """
    from .loading.adapters import read_adapter
    from .loading.loader import check_folder
    from .loading.preflight import inspect_located

    for _, folder in parts:  # before anything is fetched
        if folder is not None:
            read_adapter(folder)
    found = locate_all([name for name, _ in parts], progress)
    located = [replace(one, adapter=own) for one, (_, own) in zip(found, parts, strict=True)]
    for one in located:  # the quick checks of all models first
        with repair_named(one):
            check_folder(one.folder)
    # Tokenizers are checked when they are opened, right after this.
    reports = []
    for one in located:
        if progress:
            progress(f"checking {one.title}", 0, 0)
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
            raise PairError(f"{one.title} reads {limit} tokens at most, not {tokens}")
    check_memory(checked.reports, tokens, kv_bits=checked.spec.kv_bits)


def open_pair(checked: CheckedPair, progress: Progress | None = None) -> Pair:
    """Open the models with their tokenizers; weights are loaded lazily, those of adapters at once.

    Raises:
        ModelError: a model cannot be loaded, or the weights of an adapter are damaged.
    """
    from blendin_mlx.model import Pair

    opened = open_models(checked.models, checked.reports, progress)
    first = checked.first_other
    twin = opened[2] if first == 3 else None
    weights = tuple(checked.spec.weights)
    return Pair(opened[0], opened[1], twin, kept_phi, tuple(opened[first:]), weights)


def open_models(
    located: Sequence[LocalModel], reports: Sequence[Preflight], progress: Progress | None = None
) -> list[LanguageModel]:
    """Open models with their tokenizers and adapters, see :func:`open_pair`.

    Args:
        located: the models.
        reports: the result of the checks, for each of them.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: a model cannot be loaded, or the weights of an adapter are damaged.
    """
    from .loading.adapters import adapted

    plain: dict[Path, LanguageModel] = {}
    opened = []
    for one, report in zip(located, reports, strict=True):
        folder = one.folder.resolve()
        if progress:
            progress(f"reading the tokenizer of {one.name}", 0, 0)
        plain[folder] = model = plain.get(folder) or open_located(one)  # a folder is opened once
        opened.append(model if report.adapter is None else adapted(model, report.adapter))
    return opened


def load_pair(
    pair: str | None = None,
    *,
    base: str | None = None,
    aligned: str | Sequence[str] | None = None,
    weights: Sequence[float] = (),
    base_adapter: str | Path | None = None,
    aligned_adapter: str | Path | None = None,
    needs_chat_template: bool = False,
    progress: Progress | None = None,
) -> Pair:
    """Load both models of a catalogue pair, or of two names (see :func:`check_pair`).

    Args:
        pair: a pair of the catalogue.
        base: the base model, instead of the pair's: a catalogue name, a hub repo id or a folder.
        aligned: the aligned model, likewise, or several.
        weights: of several aligned models, in proportion; equal if not given.
        base_adapter: see :class:`PairSpec`.
        aligned_adapter: see :class:`PairSpec`.
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
        >>> load_pair(base="Qwen/Qwen3-0.6B", aligned_adapter="adapters")
    """
    spec = PairSpec(
        pair=pair,
        base=base,
        aligned=aligned,
        weights=weights,
        base_adapter=base_adapter,
        aligned_adapter=aligned_adapter,
        needs_chat_template=needs_chat_template,
    )
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
    for model in opened.models().values():
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
