"""Embedding sizes: an id beyond a network's embedding would be read out of bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend.mlx import nn
from ..errors import PromptError

# Names of embeddings that are not of tokens.
_NOT_TOKENS = ("wpe", "position", "pos_", "token_type", "vision", "audio", "image")


def token_rows(network: Any) -> int | None:
    """Return the rows of the smallest token embedding, None if none is found.

    Quantization does not change the number of rows.
    """
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
    """Refuse ids that a model has no row for; a trace may contain such ids.

    Args:
        ids: the ids to read.
        rows: how many ids the model can read.
        name: the model's name, for the message.

    Raises:
        PromptError: an id is out of range.
    """
    for token in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= token < rows:
            raise PromptError(f"{name} has no token {token}; its ids are from 0 to {rows - 1}")
