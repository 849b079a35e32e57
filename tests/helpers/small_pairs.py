"""Pairs of tiny networks over tokenizers of some three hundred tokens: quick, and not scripted."""

from __future__ import annotations

from functools import cache

from blendin_mlx.model import LanguageModel, Pair
from scripted import CONTROL, OTHER_WORDS, STOP, scripted_tokenizer
from tiny import tiny_model


@cache
def small_model(words: int, seed: int, sharpness: float = 2.5) -> LanguageModel:
    """A model with the first or the second tokenizer of ``scripted``."""
    other = scripted_tokenizer(OTHER_WORDS, CONTROL[::-1], reverse=True)
    tokenizer = scripted_tokenizer() if words == 1 else other
    stop = tokenizer.convert_tokens_to_ids(STOP)
    return tiny_model(
        tokenizer, seed=seed, sharpness=sharpness, name=f"small-{words}-{seed}", eos=[stop]
    )


def small_pair(tokenizers: int = 1, sharpness: float = 2.5) -> Pair:
    """A base, a guide and the guide's twin, with one tokenizer for all or one for the base."""
    guide, twin = (small_model(tokenizers, seed, sharpness) for seed in (2, 3))
    return Pair(small_model(1, 1, sharpness), guide, twin)
