"""Inspection of one position of an answer: the likeliest tokens of both models and the blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .backend.mlx import mx
from .blend.dial import base_temperature
from .blend.formulas import tempered, top
from .blend.method import Method, View
from .decoding.top_tokens import likeliest
from .generation import make_guide
from .prompt_cache import make_prompt_cache
from .prompts import PairPrompt, Prompt
from .reading.context import Context
from .step import Candidate
from .tokens.answer_text import AnswerText

if TYPE_CHECKING:
    from .model import Pair
    from .tokens.projection import ProjectionRule

_COUNT = 5


@dataclass(frozen=True)
class Position:
    """The likeliest tokens at one position, the likeliest first.

    Attributes:
        base, blended: ids of the base.
        aligned: ids of the aligned model; empty if it cannot be asked.
        alpha: the guide's weight if it had been asked; None if it cannot be.
        unsure: whether the gate was open.
    """

    base: tuple[Candidate, ...]
    aligned: tuple[Candidate, ...]
    blended: tuple[Candidate, ...]
    alpha: float | None
    unsure: bool


def look_at(
    pair: Pair,
    prompt: PairPrompt,
    ids: Sequence[int],
    method: Method,
    *,
    projection: ProjectionRule = "prefix",
    count: int = _COUNT,
) -> Position:
    """Return what both models and the blend say after the answer ``ids``, in new contexts.

    Args:
        pair: the models.
        prompt: what they read before the answer.
        ids: the answer before the position, in ids of the base.
        method: gate and target; the target is computed even where the gate is shut.
        projection: see :class:`.projection.Projection`.
        count: how many tokens of each.

    Example:
        >>> look_at(pair, build_prompt(pair, "Hi"), [], make_method("blendin")).base[0].prob
    """
    cache = make_prompt_cache(pair)
    vocabulary = pair.base.vocabulary
    logits = _after(cache.base, [*prompt.base.ids, *ids])
    probs = vocabulary.distribution(tempered(logits, base_temperature(method)))
    view = View(probs, *top(probs))
    base = likeliest(probs, count)
    answer = AnswerText(vocabulary)
    for token in ids:
        answer.append(token)
    guide = make_guide(pair, cache, method, projection, prompt.aligned.ids) if method.asks else None
    if guide is None or not guide.can_read(answer):
        return Position(base, (), base, None, False)
    advice = guide.advise(answer)
    assert advice.own_probs is not None
    target = method.target(view, advice)
    return Position(
        base=base,
        aligned=likeliest(advice.own_probs, count),
        blended=likeliest(target.probs, count),
        alpha=_number(target.alpha),
        unsure=bool(method.unsure(view, True).item()),
    )


def begun(pair: Pair, prompt: PairPrompt, ids: Sequence[int]) -> PairPrompt:
    """Return a prompt that ends with the beginning ``ids`` of an answer."""
    text = pair.base.vocabulary.bytes_of(ids).decode(errors="ignore")
    own = [token for token in ids if token < pair.aligned.vocabulary.size]
    if not pair.projection().identity:
        own = pair.aligned.vocabulary.encode(text)
    return PairPrompt(
        Prompt(prompt.base.text + text, (*prompt.base.ids, *ids)),
        Prompt(prompt.aligned.text + text, (*prompt.aligned.ids, *own)),
        prompt.stops,
    )


def _after(context: Context, tokens: Sequence[int]) -> mx.array:
    context.prefill(list(tokens[:-1]))
    return context.after(list(tokens))


def _number(value: mx.array) -> float:
    number: Any = value.item()
    return float(number)
