"""Inspection of one position of an answer: the likeliest tokens of both models and the blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .backend.mlx import mx
from .blend.dial import base_temperature
from .blend.formulas import tempered, top
from .blend.method import Advice, Method, View
from .decoding.top_tokens import likeliest
from .prompt_cache import make_prompt_cache
from .prompts import PairPrompt, Prompt
from .reading.context import Context
from .reading.make_guide import make_guide
from .step import Candidate
from .tokens.answer_text import AnswerText

if TYPE_CHECKING:
    from .model import Pair
    from .tokens.projection import Projection, ProjectionRule

_COUNT = 5


@dataclass(frozen=True)
class Position:
    """The likeliest tokens at one position, the likeliest first.

    Attributes:
        base, blended: ids of the base.
        aligned: ids of the aligned model; empty if it cannot be asked.
        votes: of several guides, the same for each of them; ``aligned`` is the mixture then, in ids
            of the base.
        alpha: the guide's weight if it had been asked; None if it cannot be.
        unsure: whether the gate was open.
    """

    base: tuple[Candidate, ...]
    aligned: tuple[Candidate, ...]
    blended: tuple[Candidate, ...]
    alpha: float | None
    unsure: bool
    votes: tuple[tuple[Candidate, ...], ...] = ()


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
    guide = make_guide(pair, cache, method, projection, prompt.guide_ids) if method.asks else None
    if guide is None or not guide.can_read(answer):
        return Position(base, (), base, None, False)
    advice = guide.advise(answer)
    target = method.target(view, advice)
    return Position(
        base=base,
        aligned=_ranked(advice, count),
        blended=likeliest(target.probs, count),
        alpha=_number(target.alpha),
        unsure=bool(method.unsure(view, True).item()),
        votes=tuple(_ranked(vote, count) for vote in advice.votes),
    )


def _ranked(advice: Advice, count: int) -> tuple[Candidate, ...]:
    assert advice.own_probs is not None
    return likeliest(advice.own_probs, count)


def begun(pair: Pair, prompt: PairPrompt, ids: Sequence[int]) -> PairPrompt:
    """Return a prompt that ends with the beginning ``ids`` of an answer."""
    text = pair.base.vocabulary.bytes_of(ids).decode(errors="ignore")
    aligned, *others = (
        Prompt(read.text + text, (*read.ids, *_own(projection, ids, text)))
        for projection, read in zip(pair.projections(), prompt.guides, strict=True)
    )
    base = Prompt(prompt.base.text + text, (*prompt.base.ids, *ids))
    return PairPrompt(base, aligned, prompt.stops, tuple(others))


def _own(projection: Projection, ids: Sequence[int], text: str) -> list[int]:
    """Return the tokens of a guide for a text that the base has in ``ids``."""
    if projection.identity:
        return [token for token in ids if token < projection.aligned.size]
    return projection.aligned.encode(text)


def _after(context: Context, tokens: Sequence[int]) -> mx.array:
    context.prefill(list(tokens[:-1]))
    return context.after(list(tokens))


def _number(value: mx.array) -> float:
    number: Any = value.item()
    return float(number)
