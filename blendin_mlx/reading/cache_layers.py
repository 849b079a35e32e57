"""Caches of single layers, as mlx-lm makes them: which of them can be trimmed, and how far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..backend.mlx import mx

KV_GROUP = 32  # values quantized together


def leaves(cache: Sequence[Any]) -> list[Any]:
    """Return the caches of all layers; a layer may have several in a list."""
    return [leaf for layer in cache for leaf in getattr(layer, "caches", (layer,))]


def holds(layer: Any, count: int) -> bool:
    """Return whether a layer's cache holds ``count`` tokens; True if it does not count them."""
    if type(layer).__name__ not in ("KVCache", "QuantizedKVCache", "RotatingKVCache"):
        return True
    parts = [p[0] if isinstance(p, tuple | list) else p for p in (layer.keys, layer.values)]
    kept = min(count, getattr(layer, "max_size", count))
    return bool(layer.offset == count and all(part.shape[2] >= kept for part in parts))


def always_trims(layer: Any) -> bool:
    """Return whether a layer's cache can forget its last tokens at any length."""
    return type(layer).__name__ in ("KVCache", "QuantizedKVCache")


def trims_below(layer: Any) -> float:
    """Return the length in tokens from which the cache can no longer forget its last ones.

    Infinite for a plain cache; the size of a sliding window, which can until it is full; 0 for one
    that never can. A chunked cache says that it always can, but may have dropped what an earlier
    position attends to.
    """
    if always_trims(layer):
        return math.inf
    return float(layer.max_size) if type(layer).__name__ == "RotatingKVCache" else 0.0


def trims_at(layer: Any, length: int) -> bool:
    """Return whether the cache, grown to ``length`` tokens, can forget its last ones."""
    below = trims_below(layer)
    return below > 0 and max(length, layer.offset) < below


def quantize(cache: list[Any], bits: int, name: str) -> None:
    """Quantize the plain caches among these.

    Args:
        cache: of each layer of a model.
        bits: 4 or 8.
        name: the model's, for messages.

    Raises:
        ValueError: the width of its heads does not allow it.
    """
    for n, layer in enumerate(cache):
        if type(layer).__name__ == "KVCache":
            if layer.keys.shape[-1] % KV_GROUP or layer.values.shape[-1] % KV_GROUP:
                raise ValueError(
                    f"kv_bits cannot be used with {name}: the width of its heads is not a "
                    f"multiple of {KV_GROUP}"
                )
            cache[n] = layer.to_quantized(group_size=KV_GROUP, bits=bits)


def copied(state: Any) -> Any:
    """Return a cache state that later in-place writes do not reach."""
    if isinstance(state, mx.array):
        return mx.array(state)
    if isinstance(state, list | tuple):
        return type(state)(copied(part) for part in state)
    return state


def nbytes(state: Any) -> int:
    """Return the bytes of all arrays in a cache state."""
    if isinstance(state, mx.array):
        return state.nbytes
    return sum(map(nbytes, state)) if isinstance(state, list | tuple) else 0
