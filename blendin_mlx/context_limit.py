"""How many tokens a model reads, as its config says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Where configs keep the longest sequence a model was made for.
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
# Of these the config gives the length before it was stretched; of all others, the one after.
_STRETCHED = ("linear", "dynamic", "ntk", "yarn", "deepseek_yarn")


def context_limit(config: Mapping[str, Any], wanted: int | None = None) -> int | None:
    """Return the longest sequence in tokens that a model reads, None where nothing says.

    Rotary positions that are stretched (RoPE scaling) reach farther. A config gives that length
    itself for Llama 3's and LongRoPE's rule, and for Gemma 3; for the others it follows from the
    factor. Learned positions end where they end, whatever is wanted.

    Args:
        wanted: a limit to have instead.

    Example:
        >>> context_limit({"max_position_embeddings": 4096,
        ...                "rope_scaling": {"rope_type": "linear", "factor": 4}})
        16384
    """
    part = config.get("text_config") or config
    limits: list[int] = [part[key] for key in CONTEXT_KEYS if _is_count(part.get(key))]
    learned: Any = part.get("n_positions")
    if wanted is not None:
        return min(wanted, learned) if _is_count(learned) else wanted
    return _stretched(min(limits), part) if limits else None


def _stretched(limit: int, part: Mapping[str, Any]) -> int:
    scaling = part.get("rope_scaling") or part.get("rope_parameters")
    if not isinstance(scaling, Mapping) or str(part.get("model_type")).startswith("gemma3"):
        return limit
    kind = scaling.get("rope_type", scaling.get("type"))
    factor: Any = scaling.get("factor")
    if kind not in _STRETCHED or not _is_factor(factor):
        return limit
    original: Any = scaling.get("original_max_position_embeddings")
    if _is_count(original):  # the limit may be that of the stretched positions already
        return max(limit, int(original * factor))
    return int(limit * factor)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and 1 <= value < math.inf
