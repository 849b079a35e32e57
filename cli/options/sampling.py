"""How tokens are drawn: the sampler and the penalties of mlx-lm that the options ask for."""

from __future__ import annotations

from typing import Any

from .settings import Settings

COLDEST = 1e-6  # below it 1 / temp outgrows float32, and mlx-lm draws just any token
MILDEST = 1e-6  # a penalty below it makes infinity of a logit


def sampling(settings: Settings, vocabulary: int) -> dict[str, Any]:
    """Return the sampling arguments of ``stream_generate``.

    Args:
        vocabulary: how many tokens there are; a top-k of all of them is no limit.
    """
    from mlx_lm.sample_utils import make_logits_processors, make_sampler

    top_k = settings.top_k if settings.top_k < vocabulary else 0
    temp = max(settings.temp, COLDEST)
    sampler = None
    if settings.temp > 0:
        sampler = make_sampler(temp, settings.top_p, settings.min_p, top_k=top_k)
    penalty = settings.repetition_penalty
    processors = make_logits_processors(
        repetition_penalty=penalty and max(penalty, MILDEST),
        repetition_context_size=settings.repetition_context_size,
    )
    return {"sampler": sampler, "logits_processors": processors}
