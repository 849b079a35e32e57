"""The context limit of a model, from its config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Keys of the longest sequence that a model was trained for.
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
# For these kinds of RoPE scaling the config gives the length before scaling; for others, after.
_STRETCHED = ("linear", "dynamic", "ntk", "yarn", "deepseek_yarn")


def context_limit(config: Mapping[str, Any], wanted: int | None = None) -> int | None:
    """Return the longest sequence in tokens that a model reads, None if it is not known.

    RoPE scaling makes it longer. The config gives the scaled length for Llama 3's and LongRoPE's
    rule, and for Gemma 3; for other rules it follows from the factor. Learned positions
    (``n_positions``) cannot be exceeded, whatever is wanted.

    Args:
        config: the content of config.json.
        wanted: a limit to use instead.

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
    if _is_count(original):  # the limit may be the scaled one already
        return max(limit, int(original * factor))
    return int(limit * factor)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and 1 <= value < math.inf
