"""Which models a pair has, and what they must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .catalogue import entries
from .storage.local_model import adapter_folder

TOKENS = 4096  # the longest conversation that memory is checked for by default


@dataclass(frozen=True, kw_only=True)
class PairSpec:
    """The models of a pair, and what they must be able to do.

    Args:
        pair: a pair of the catalogue.
        base: the base model, instead of the pair's: a catalogue name, a hub repo id or a folder.
        aligned: the aligned model, likewise, or several; without ``pair`` both are needed.
        weights: of several aligned models, in proportion; equal if not given.
        reference: the aligned model's unaligned twin, for methods that need one.
        base_adapter: folder of an adapter that the base gets, in mlx-lm's format.
        aligned_adapter: likewise of the aligned model; if no aligned model is named, the base with
            this adapter is the aligned model. Arrays are shared, not copied.
        tokens: length of the longest conversation, in tokens.
        kv_bits: bits that the caches are quantized to, 4 or 8; None: not quantized.
        force: load models that do not fit the memory.
        needs_chat_template: refuse an aligned model without a chat template before any weight is
            read; False if prompts bring their own template.

    Raises:
        ValueError: one side is not named, ``kv_bits`` is neither 4 nor 8, or of several aligned
            models not all have a weight, or one shall have an adapter.

    Example:
        >>> PairSpec(base="HuggingFaceTB/SmolLM2-360M", aligned="smollm2-135m-instruct")
    """

    pair: str | None = None
    base: str | None = None
    aligned: str | Sequence[str] | None = None
    weights: Sequence[float] = ()
    reference: str | None = None
    base_adapter: str | Path | None = None
    aligned_adapter: str | Path | None = None
    tokens: int = TOKENS
    kv_bits: int | None = None
    force: bool = False
    needs_chat_template: bool = False

    def __post_init__(self) -> None:
        if self.kv_bits not in (None, 4, 8):
            raise ValueError(f"kv_bits must be 4 or 8, not {self.kv_bits}")
        guided = bool(self.guides) or self.aligned_adapter is not None
        if self.pair is None and (self.base is None or not guided):
            raise ValueError("name a pair, or both a base and an aligned model")
        if self.weights and len(self.weights) != len(self.guides):
            raise ValueError(f"{len(self.guides)} guides, but {len(self.weights)} weights")
        if len(self.guides) > 1 and self.aligned_adapter is not None:
            raise ValueError("an adapter goes onto one aligned model, not onto one of several")

    @property
    def guides(self) -> tuple[str, ...]:
        """The names of the aligned models, as far as they are named."""
        if self.aligned is None or isinstance(self.aligned, str):
            return () if self.aligned is None else (self.aligned,)
        return tuple(self.aligned)

    def names(self) -> tuple[str, ...]:
        """Return the names of the base, the aligned model, the reference if any, further guides.

        Raises:
            ModelError: no pair has that name.
        """
        return tuple(name for name, _ in self.parts())

    def parts(self) -> tuple[tuple[str, Path | None], ...]:
        """Return the same names, each with the absolute path of the adapter that it gets.

        Raises:
            ModelError: no pair has that name.
        """
        base, (aligned, *others) = self.base, self.guides or (None,)
        adapters = [self.base_adapter, self.aligned_adapter]
        if self.pair is not None:
            entry = entries.find_pair(self.pair)
            if base is None:
                base, adapters[0] = entry.base, self.base_adapter or entry.base_adapter
            if aligned is None and self.aligned_adapter is None:
                aligned, adapters[1] = entry.aligned, entry.aligned_adapter
        models = [(base, adapters[0]), (aligned or base, adapters[1]), (self.reference, None)]
        models += [(name, None) for name in others]
        return tuple((name, adapter_folder(folder)) for name, folder in models if name is not None)
