"""Sampling options as mlx-lm's samplers and processors."""

from __future__ import annotations

from typing import Any

from .settings import Settings

_COLDEST = 1e-6  # lower temperatures overflow float32 in 1 / temp, and mlx-lm draws any token
_MILDEST = 1e-6  # smaller penalties make logits infinite


def sampling(settings: Settings, size: int) -> dict[str, Any]:
    """Return ``sampler`` and ``logits_processors`` as the engine takes them.

    Args:
        size: of the base's vocabulary.
    """
    from mlx_lm.sample_utils import make_logits_processors, make_sampler

    s = settings
    top_k = s.top_k if s.top_k < size else 0  # all: no limit
    temp = max(s.temp, _COLDEST)
    sampler = make_sampler(temp, s.top_p, s.min_p, top_k=top_k) if s.temp > 0 else None
    processors = make_logits_processors(
        repetition_penalty=s.repetition_penalty and max(s.repetition_penalty, _MILDEST),
        repetition_context_size=s.repetition_context_size,
    )
    return {"sampler": sampler, "logits_processors": processors}
