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
from typing import Any, NamedTuple

from ..backend.mlx import mx
from ..blend.dial import Dialled, base_temperature, guide_temperature
from ..blend.formulas import FLOOR
from ..blend.method import Method
from ..blend.methods import make_method
from ..decoding.rules import check_finite
from ..decoding.top_tokens import likeliest
from ..errors import PromptError
from ..generation import make_guide
from ..model import LanguageModel, Pair
from ..prompt_cache import PromptCache, make_prompt_cache
from ..prompts import Message, PairPrompt, build_prompt
from ..reading.context import Context
from ..reading.guide import Guide
from ..reading.reader import Progress
from ..reading.room import check_fits, too_long
from ..step import Candidate
from ..tokens.projection import ProjectionRule
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
    if isinstance(method, str):
        method = make_method(method)
    if not isinstance(prompt, PairPrompt):
        check_fits(pair.base, prompt)
        prompt = build_prompt(pair, prompt)
    cache = prompt_cache or make_prompt_cache(pair)
    text = given_text(pair, prompt, answer, complete)
    own = pair.aligned.vocabulary.encode(text.written)
    if method.asks:
        check_room(pair.aligned, len(prompt.aligned.ids) + len(own))
    if not method.needs_base:  # the guide alone
        text = text._replace(ids=own)
        alone = Dialled(make_method("base"), temper=guide_temperature(method))
        return _score(cache.aligned, prompt.aligned.ids, text, alone, None, top, progress)
    check_room(pair.base, len(prompt.base.ids) + len(text.ids))
    guide = None
    if method.asks:
        guide = make_guide(pair, cache, method, projection, prompt.aligned.ids)
    return _score(cache.base, prompt.base.ids, text, method, guide, top, progress)


class GivenText(NamedTuple):
    """A text to score.

    Attributes:
        ids: in tokens of the model that it is scored with.
        written: the same as text.
        complete: it ends there.
    """

    ids: Sequence[int]
    written: str
    complete: bool


def given_text(
    pair: Pair, prompt: PairPrompt, answer: str | Sequence[int], complete: bool
) -> GivenText:
    """Return an answer in ids of the base and as text.

    Raises:
        PromptError: nothing to score, half a surrogate pair, or an empty prompt.
    """
    vocabulary = pair.base.vocabulary
    if isinstance(answer, str):
        try:
            answer.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the answer is not valid text: a lone surrogate at character {error.start}"
            ) from None
        text = GivenText(vocabulary.encode(answer), answer, complete)
    else:
        written = vocabulary.bytes_of(answer).decode(errors="replace")
        text = GivenText(list(answer), written, complete)
    if not text.ids and not complete:
        raise PromptError("the answer is empty: there is nothing to score")
    if not prompt.base.ids or not prompt.aligned.ids:
        raise PromptError("the prompt is empty: a template writes nothing")
    return text


def check_room(model: LanguageModel, tokens: int) -> None:
    """Refuse a prompt and an answer that a model's context cannot hold.

    Raises:
        PromptError: naming the model and its limit.
    """
    limit = model.context_limit
    if limit is not None and tokens > limit:
        raise too_long(model, f"prompt and answer have {tokens}", "the answer")


def _score(
    context: Context,
    prompt: Sequence[int],
    text: GivenText,
    method: Method,
    guide: Guide | None,
    top: int,
    progress: Progress,
) -> Score:
    tokens = [*text.ids, *([context.model.vocabulary.stop] if text.complete else [])]
    rows: list[list[float]] = []
    ranked: list[tuple[Candidate, ...]] = []
    for block in read_positions(context, prompt, tokens, guide, base_temperature(method)):
        probs, asked = _targets(block, method, guide)
        fresh = _rows(_facts(block, probs, asked))
        check_all_finite(context.model, [row[0] for row in fresh], len(rows))
        if guide is not None:  # the base is finite
            check_all_finite(guide.context.model, [row[1] for row in fresh], len(rows))
        rows += fresh
        if top:
            ranked += [likeliest(probs[n : n + 1], top) for n in range(len(fresh))]
        progress(len(rows), len(tokens))
    return Score(
        token_ids=tuple(tokens),
        log_probs=tuple(math.log(max(row[1], FLOOR)) for row in rows),
        is_greedy=all(row[2] for row in rows),
        interventions=sum(int(row[3]) for row in rows),
        num_bytes=len(text.written.encode()),
        top=tuple(ranked),
    )


def _targets(block: Block, method: Method, guide: Guide | None) -> tuple[mx.array, mx.array]:
    """Return ``r`` at each position, ``[n, V]``, and where the guide was asked, ``[n]``.

    The gate is that of sampling: in greedy decoding it may stay shut where the guide could change
    ``r`` but not its top token.
    """
    probs, asked = block.view.probs, mx.zeros(len(block.tokens), dtype=mx.bool_)
    if guide is None or block.logits is None:
        return probs, asked
    asked = mx.array(block.readable) & method.unsure(block.view, greedy=False)
    advice = guide.advice(block.logits, block.reference_logits)
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
