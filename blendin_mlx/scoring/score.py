"""How likely a given text is as the answer of a pair, token by token.

The blended log-likelihood of a text is ``ℓ = Σ_t log r_t(y_t)`` over the base's tokens ``y`` of it,
``r_t`` the method's target where its gate is open and ``P_b`` elsewhere. No stop policy, sampling
or penalty has a part in it. ``aligned`` is scored on the guide's own tokens: φ moves mass to the
first token of a word, so what it carries over is not the probability of a text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..backend.mlx import mx
from ..blend.dial import guide_temperature
from ..blend.formulas import FLOOR
from ..blend.method import Advice, Method
from ..blend.methods import make_method
from ..decoding.rules import check_finite
from ..decoding.top_tokens import likeliest
from ..generation import make_guide
from ..model import LanguageModel, Pair
from ..prompt_cache import PromptCache, make_prompt_cache
from ..prompts import Message, PairPrompt, build_prompt
from ..reading.context import Context
from ..reading.guide import Guide
from ..reading.reader import Progress
from ..reading.room import check_fits
from ..step import Candidate
from ..tokens.projection import ProjectionRule
from .given_text import GivenText, check_room, given_text
from .positions import Block, read_positions


@dataclass(frozen=True)
class Score:
    """How likely a text is.

    Attributes:
        token_ids: its tokens, of the base (of the aligned model for ``aligned``); STOP is the last
            one where it was scored.
        log_probs: natural logarithm of each one's probability; at least ``log 1e-37``.
        is_greedy: each token is the likeliest at its place.
        interventions: at how many places the guide had a part in it.
        num_bytes: of the text in UTF-8.
        top: the likeliest tokens at each place, the likeliest first, where they were asked for.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    is_greedy: bool
    interventions: int
    num_bytes: int
    top: tuple[tuple[Candidate, ...], ...] = ()

    @property
    def total(self) -> float:
        """The log-likelihood of the text in nats."""
        return math.fsum(self.log_probs)

    @property
    def bits_per_byte(self) -> float | None:
        """Bits that it takes to write a byte of the text, the end included; None without a byte.

        That can be compared between models with other tokenizers.
        """
        return -self.total / math.log(2) / self.num_bytes if self.num_bytes else None


def score(
    pair: Pair,
    prompt: str | Sequence[Message] | PairPrompt,
    answer: str | Sequence[int],
    *,
    method: str | Method = "blendin",
    complete: bool = True,
    projection: ProjectionRule = "prefix",
    prompt_cache: PromptCache | None = None,
    top: int = 0,
    progress: Progress = lambda done, total: None,
) -> Score:
    """Score a text as the answer to a prompt; each model reads it once.

    Args:
        pair: the models.
        prompt: a user message, a conversation, or a prompt made with :func:`.build_prompt`.
        answer: a text, or the ids that the base would write, without STOP.
        method: a name of :data:`.methods.METHODS`, or a method with its options.
        complete: the answer ends there: STOP is scored too, as its last token.
        projection: see :class:`.projection.Projection`.
        prompt_cache: contexts of an earlier call; the common prefix is not read again, so that
            several answers to one prompt share its reading.
        top: how many of the likeliest tokens at each place the score names.
        progress: called after each pass with the tokens scored and those to score; what it raises
            breaks off.

    Raises:
        PromptError: nothing to score, or more than a context holds.
        PairError: these models cannot be blended.
        NumericalError: logits that are not finite.

    Example:
        >>> score(pair, "What is 2 + 2?", "4").total > score(pair, "What is 2 + 2?", "5").total
        True
    """
    made = make_method(method) if isinstance(method, str) else method
    (found,) = score_each(
        pair,
        prompt,
        answer,
        [made],
        complete=complete,
        projection=projection,
        prompt_cache=prompt_cache,
        top=top,
        progress=progress,
    )
    return found


def score_each(
    pair: Pair,
    prompt: str | Sequence[Message] | PairPrompt,
    answer: str | Sequence[int],
    methods: Sequence[Method],
    *,
    complete: bool = True,
    projection: ProjectionRule = "prefix",
    prompt_cache: PromptCache | None = None,
    top: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[Score]:
    """Score a text by each of several methods, all from one reading; see :func:`score`.

    Raises:
        ValueError: methods that want the guide at different temperatures.

    Example:
        >>> base, blend = score_each(pair, "What is 2 + 2?", "4", [Base(), BlendIn()])
    """
    if len(set(map(guide_temperature, methods))) > 1:
        raise ValueError("methods that are scored together must have one temperature of the guide")
    if not isinstance(prompt, PairPrompt):
        check_fits(pair.base, prompt)
        prompt = build_prompt(pair, prompt)
    cache = prompt_cache or make_prompt_cache(pair)
    text = given_text(pair, prompt, answer, complete)
    own = pair.aligned.vocabulary.encode(text.written)
    if any(method.asks for method in methods):
        check_room(pair.aligned, len(prompt.aligned.ids) + len(own))
    found: dict[int, Score] = {}
    if alone := [n for n, method in enumerate(methods) if method.name == "aligned"]:
        written, base = text._replace(ids=own), [make_method("base")]
        (guides,) = _score(cache.aligned, prompt.aligned.ids, written, base, None, top, progress)
        found = dict.fromkeys(alone, guides)
    others = [(n, method) for n, method in enumerate(methods) if n not in found]
    if not others:
        return list(found.values())
    check_room(pair.base, len(prompt.base.ids) + len(text.ids))
    guide = None
    if asking := [method for _, method in others if method.asks]:
        needy = next((method for method in asking if method.needs_reference), asking[0])
        guide = make_guide(pair, cache, needy, projection, prompt.aligned.ids)
    blended = [method for _, method in others]
    scores = _score(cache.base, prompt.base.ids, text, blended, guide, top, progress)
    found |= {n: one for (n, _), one in zip(others, scores, strict=True)}
    return [found[n] for n in range(len(methods))]


def _score(
    context: Context,
    prompt: Sequence[int],
    text: GivenText,
    methods: Sequence[Method],
    guide: Guide | None,
    top: int,
    progress: Progress,
) -> list[Score]:
    tokens = [*text.ids, *([context.model.vocabulary.stop] if text.complete else [])]
    rows: list[list[list[float]]] = [[] for _ in methods]
    ranked: list[list[tuple[Candidate, ...]]] = [[] for _ in methods]
    for block in read_positions(context, prompt, tokens, guide):
        done = len(rows[0])
        advice = None if guide is None else guide.advice(block.logits, block.begun, block.before)
        for n, method in enumerate(methods):
            probs, asked = _targets(block, method, advice)
            fresh = _rows(_facts(block, probs, asked))
            check_all_finite(context.model, [row[0] for row in fresh], done)
            if guide is not None:  # the base is finite
                check_all_finite(guide.context.model, [row[1] for row in fresh], done)
            rows[n] += fresh
            if top:
                ranked[n] += [likeliest(probs[i : i + 1], top) for i in range(len(fresh))]
        progress(len(rows[0]), len(tokens))
    return [_made_score(tokens, text, *one) for one in zip(rows, ranked, strict=True)]


def _made_score(
    tokens: Sequence[int],
    text: GivenText,
    rows: Sequence[Sequence[float]],
    ranked: Sequence[tuple[Candidate, ...]],
) -> Score:
    return Score(
        token_ids=tuple(tokens),
        log_probs=tuple(math.log(max(row[1], FLOOR)) for row in rows),
        is_greedy=all(row[2] for row in rows),
        interventions=sum(int(row[3]) for row in rows),
        num_bytes=len(text.written.encode()),
        top=tuple(ranked),
    )


def _targets(block: Block, method: Method, advice: Advice | None) -> tuple[mx.array, mx.array]:
    """Return ``r`` at each position, ``[n, V]``, and where the guide was asked, ``[n]``.

    The gate is that of sampling: in greedy decoding it may stay shut where the guide could change
    ``r`` but not its top token.
    """
    probs, asked = block.view.probs, mx.zeros(len(block.tokens), dtype=mx.bool_)
    if advice is None or not method.asks:
        return probs, asked
    asked = mx.array(block.readable) & method.unsure(block.view, greedy=False)
    target = method.target(block.view, advice).probs
    return mx.where(asked[:, None], target, probs), asked


def _facts(block: Block, probs: mx.array, asked: mx.array) -> list[mx.array]:
    """Return of each place: the base's confidence, ``r(y)``, is y on top, was the guide asked."""
    tokens = mx.array(block.tokens)
    prob = mx.take_along_axis(probs, tokens[:, None], axis=-1)[:, 0]
    return [block.view.confidence, prob, probs.argmax(axis=-1) == tokens, asked]


def _rows(columns: Sequence[mx.array]) -> list[list[float]]:
    """Read columns ``[n]`` back in one array; return its ``n`` rows."""
    rows: Any = mx.stack([one.astype(mx.float32) for one in columns], axis=-1).tolist()
    return list(rows)


def check_all_finite(model: LanguageModel, values: Sequence[float], before: int) -> None:
    """Refuse what a model with damaged weights says.

    Args:
        model: where it comes from.
        values: of neighbouring places.
        before: how many places come before them.

    Raises:
        NumericalError: a value that is not finite, by its place in the answer.
    """
    for n, value in enumerate(values, before):
        check_finite(value, model, n)
