"""The sampler and the penalties of mlx-lm that the options ask for."""

from __future__ import annotations

from typing import Any

from .settings import Settings

COLDEST = 1e-6  # below it 1 / temp overflows float32, and mlx-lm draws any token


def sampling(settings: Settings, vocabulary: int) -> dict[str, Any]:
    """Return the sampling arguments of ``stream_generate``.

    Args:
        settings: the options.
        vocabulary: the number of tokens; a top-k that large is not a limit.
    """
    from mlx_lm.sample_utils import make_sampler

    from blendin_mlx.blend.sampling import repetition_penalty

    top_k = settings.top_k if settings.top_k < vocabulary else 0
    temp = max(settings.temp, COLDEST)
    sampler = None
    if settings.temp > 0:
        sampler = make_sampler(temp, settings.top_p, settings.min_p, top_k=top_k)
    processors = repetition_penalty(settings.repetition_penalty, settings.repetition_context_size)
    return {"sampler": sampler, "logits_processors": processors}
