"""How many tokens a network can read: an id beyond its embedding is read out of bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import PromptError

# Embeddings of other things than tokens: positions, and types of them.
_NOT_TOKENS = ("wpe", "position", "pos_", "token_type", "vision", "audio", "image")


def token_rows(network: Any) -> int | None:
    """Return the rows of the smallest embedding of tokens, None where there is none to see.

    A quantized embedding has as many rows as the one it was made from.
    """
    import mlx.nn as nn

    if not isinstance(network, nn.Module):
        return None
    rows = [
        int(module.weight.shape[0])
        for name, module in network.named_modules()
        if isinstance(module, nn.Embedding | nn.QuantizedEmbedding)
        and not any(part in name for part in _NOT_TOKENS)
    ]
    return min(rows, default=None)


def check_ids(ids: Sequence[int], rows: int, name: str) -> None:
    """Refuse ids that a model has no row for, which a trace may name.

    Raises:
        PromptError: there is one.
    """
    for token in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= token < rows:
            raise PromptError(f"{name} has no token {token}; its ids are from 0 to {rows - 1}")
