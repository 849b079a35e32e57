"""The values of the options that commands share, as one record.

The names of methods, gates and templates are repeated here because importing the engine would make
``--help`` slow. A test compares them with the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blendin_mlx.decoding.rules import StopPolicy
    from blendin_mlx.drafting.drafter import Draft
    from blendin_mlx.tokens.projection import ProjectionRule

    from .types import WeightedModel

DEFAULT_PAIR = "demo"
METHODS = (
    *("base", "aligned", "blendin", "fixed", "nudging", "ensemble", "kad", "kad-primal"),
    *("confidence-bet", "proxy-tuning", "contrastive"),
)
GATES = ("confidence", "entropy", "margin")
STOP_POLICIES = ("blend", "base", "either", "guide")
PROJECTIONS = ("prefix", "shared")
DRAFTS = ("auto", "guide", "lookup", "off")


@dataclass(frozen=True)
class Settings:
    """The values of the shared options."""

    pair: str | None
    base: str | None
    aligned: tuple[WeightedModel, ...]
    reference: str | None
    base_adapter: Path | None
    aligned_adapter: Path | None
    method: str
    tau: float | None
    gate: str | None
    alpha: float | None
    lambda_: float | None
    beta: float | None
    dial: float
    guide_temp: float
    temper: float
    stop_policy: StopPolicy
    projection: ProjectionRule
    base_template: str | Path
    aligned_template: Path | None
    thinking: bool
    system: str | None
    max_tokens: int
    temp: float
    top_p: float
    min_p: float
    top_k: int
    repetition_penalty: float | None
    repetition_context_size: int
    seed: int | None
    stop: tuple[str, ...]
    context: int | None
    kv_bits: int | None
    prompt_cache: Path | None
    json_schema: Path | dict[str, Any] | None
    draft: Draft
    num_draft_tokens: int | None
    force: bool
    wired_limit: bool
    shard: bool

    @property
    def names_models(self) -> bool:
        """True if a base, an aligned model or an adapter is named, besides the pair or alone."""
        return any((self.base, self.aligned, self.base_adapter, self.aligned_adapter))


# What holds for a command that does not ask for it: it writes no answer.
UNASKED: dict[str, Any] = {
    "stop_policy": "either",
    "max_tokens": 512,
    "temp": 0.0,
    "top_p": 0.0,
    "min_p": 0.0,
    "top_k": 0,
    "seed": None,
    "repetition_penalty": None,
    "repetition_context_size": 20,
    "stop": (),
    "json_schema": None,
    "draft": "off",
    "num_draft_tokens": None,
    "prompt_cache": None,
    "shard": False,
}
