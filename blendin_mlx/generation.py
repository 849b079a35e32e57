"""Text on top of steps: streamed text, stop strings, limits, statistics.

Three layers, as in mlx-lm: :mod:`.decoding` yields steps, :func:`stream_generate` text,
:func:`generate` the whole string.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from .backend import mx
from .choosing import Chooser, LogitsProcessor, Sampler
from .context import Context, Progress
from .costs import measure
from .decoding import Decoder, StopPolicy
from .errors import PromptError
from .guide import Guide
from .methods import Method, make_method
from .model import LanguageModel, Pair
from .projection import ProjectionRule
from .prompts import Message, PairPrompt, build_prompt
from .speculation import (
    Draft,
    Drafting,
    GuideProposer,
    LookupProposer,
    Proposer,
    Speculation,
)
from .statistics import FinishReason, Statistics, describe_method, use_of
from .step import Step
from .stops import Match, StopStrings


@dataclass
class PromptCache:
    """What both models of a pair have read; give it again to go on from there."""

    base: Context
    aligned: Context


@dataclass(frozen=True)
class Piece:
    """A settled step and the characters that its token completed."""

    step: Step
    text: str


@dataclass(frozen=True)
class Response:
    """A part of the answer that will not change any more.

    Attributes:
        text: what can be shown now; empty while bytes or a possible stop string are withheld.
        pieces: the steps that were settled. Their text is that of ``text``, but for what a stop
            string cut off.
        finish_reason: set in the last response only.
        statistics: counts so far; complete in the last response.
    """

    text: str
    pieces: tuple[Piece, ...]
    statistics: Statistics
    finish_reason: FinishReason | None = None


def make_prompt_cache(
    pair: Pair, *, kv_bits: int | None = None, prefill_step_size: int | None = None
) -> PromptCache:
    """Empty contexts for both models (see :class:`.context.Context` for the options)."""
    base, aligned = (
        Context(model, kv_bits=kv_bits, prefill_step_size=prefill_step_size)
        for model in (pair.base, pair.aligned)
    )
    return PromptCache(base, aligned)


def stream_generate(
    pair: Pair,
    prompt: str | Sequence[Message] | PairPrompt,
    *,
    method: str | Method = "blendin",
    max_tokens: int = 256,
    sampler: Sampler | None = None,
    logits_processors: Sequence[LogitsProcessor] = (),
    stop: Sequence[str] = (),
    stop_policy: StopPolicy = "either",
    projection: ProjectionRule = "prefix",
    draft: Draft | Drafting = "off",
    prompt_cache: PromptCache | None = None,
    kv_bits: int | None = None,
    prompt_progress_callback: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Response]:
    """Answer a prompt with a pair, piece by piece.

    Args:
        pair: the two models.
        prompt: a user message, a conversation, or a prompt made with :func:`.build_prompt`.
        method: a name of :data:`.methods.METHODS`, or a method with its options.
        max_tokens: most tokens to produce, at least 1.
        sampler, logits_processors: from ``mlx_lm.sample_utils``; applied to the distribution
            that decides. Greedy where there is no sampler.
        stop: strings that end the answer and are not shown.
        stop_policy: see :data:`.decoding.StopPolicy`.
        projection: see :class:`.projection.Projection`.
        draft: who may propose tokens to score ahead; changes the time, never the text. Give a
            :class:`.speculation.Drafting` to set its length, or to keep what it learns.
        prompt_cache: contexts of an earlier call; the common prefix is not read again.
        kv_bits: quantize new caches to 4 or 8 bits.
        prompt_progress_callback: called with tokens read and tokens to read.
        should_stop: asked before each token and each step of the prefill.

    Raises:
        PromptError: an empty prompt, or one longer than a context.
        PairError: these models cannot be blended.
        NumericalError: logits that are not finite.
        ValueError: an option out of range.

    Example:
        >>> for response in stream_generate(pair, "Why is the sky blue?", max_tokens=100):
        ...     print(response.text, end="", flush=True)
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    if isinstance(method, str):
        method = make_method(method)
    if not isinstance(prompt, PairPrompt):
        prompt = build_prompt(pair, prompt)
    _check_room(pair.base, len(prompt.base.ids))
    if method.asks:
        _check_room(pair.aligned, len(prompt.aligned.ids))
    cache = prompt_cache or make_prompt_cache(pair, kv_bits=kv_bits)
    base_ids = list(prompt.base.ids)
    unread = [(cache.base, base_ids[:-1])]
    chooser = Chooser(sampler, logits_processors)
    run = _Run(
        cache,
        Statistics(
            method=describe_method(method),
            stop_policy=stop_policy,
            base_prompt_tokens=len(base_ids),
            aligned_prompt_tokens=len(prompt.aligned.ids),
        ),
        StopStrings(stop, prompt.stops),
        max_tokens,
        should_stop or (lambda: False),
        prompt_progress_callback or (lambda done, total: None),
    )
    guide = None
    if method.asks:
        phi = pair.projection(projection)
        guide = Guide(cache.aligned, phi, prompt.aligned.ids)
        unread.append((cache.aligned, list(prompt.aligned.ids[:-1])))
    speculation = _speculation(draft, pair, cache.base, base_ids, guide)
    decoder = Decoder(
        cache.base, base_ids, guide, method, chooser, stop_policy, speculation, max_tokens
    )
    return run.stream(decoder, unread)


def _speculation(
    draft: Draft | Drafting, pair: Pair, base: Context, prompt: Sequence[int], guide: Guide | None
) -> Speculation | None:
    drafting = Drafting(draft) if isinstance(draft, str) else draft
    proposers: list[Proposer] = []
    if drafting.allows("lookup"):
        proposers.append(LookupProposer(prompt))
    if drafting.allows("guide") and guide is not None:
        proposers.append(GuideProposer(guide, pair.base.vocabulary))
    if not proposers:
        return None
    if drafting.num_draft_tokens is None and drafting.costs is None:
        drafting.costs = measure(pair)
    return Speculation(drafting, proposers, base)


def generate(pair: Pair, prompt: str | Sequence[Message] | PairPrompt, **options: Any) -> str:
    """The whole answer as a string; the options are those of :func:`stream_generate`.

    Example:
        >>> generate(pair, "How do I boil an egg?", max_tokens=200)
    """
    return "".join(response.text for response in stream_generate(pair, prompt, **options))


def _check_room(model: LanguageModel, tokens: int) -> None:
    limit = model.context_limit
    if limit is not None and tokens >= limit:
        raise PromptError(
            f"the prompt has {tokens} tokens for {model.name}, whose context holds {limit}; "
            "shorten it"
        )


class _StopRequested(Exception):  # noqa: N818 - no error: the caller wants it
    """The caller asked for an end while the prompt was read."""


@dataclass
class _Run:
    """One answer being written: what is decided, settled and shown."""

    cache: PromptCache
    statistics: Statistics
    stops: StopStrings
    max_tokens: int
    should_stop: Callable[[], bool]
    progress: Progress
    shown: int = 0
    _held: list[tuple[Step, int]] = field(default_factory=list)  # steps and where their text ends
    _settled_text: int = 0

    def __post_init__(self) -> None:
        self._before = [use_of(context) for context in self._contexts()]

    def stream(
        self, decoder: Decoder, prompts: Sequence[tuple[Context, list[int]]]
    ) -> Iterator[Response]:
        """Read the prompts, then decode."""
        mx.reset_peak_memory()
        started = time.perf_counter()
        try:
            self._prefill(prompts)
            for response in self._decode(decoder):
                yield self._timed(response, started)
        except _StopRequested:
            yield self._timed(self._finish(decoder, "interrupted"), started)

    def _prefill(self, prompts: Sequence[tuple[Context, list[int]]]) -> None:
        started = time.perf_counter()
        unread = [(context, context.move_to(ids)) for context, ids in prompts]
        total = sum(len(ids) for _, ids in unread)
        before = 0
        try:
            for context, ids in unread:
                context.prefill(
                    ids, lambda done, _, before=before: self.watch(before + done, total)
                )
                before += len(ids)
        finally:
            self.statistics.prefill_s = time.perf_counter() - started

    def watch(self, done: int, total: int) -> None:
        """Called while a prompt is read: tell the caller, who may want it to end."""
        self.progress(done, total)
        if self.should_stop():
            raise _StopRequested

    def _timed(self, response: Response, started: float) -> Response:
        statistics = self.statistics
        statistics.decode_s = time.perf_counter() - started - statistics.prefill_s
        return response

    def _decode(self, decoder: Decoder) -> Iterator[Response]:
        shown: int | None = None
        with closing(iter(decoder)) as steps:
            while (reason := self._limit(decoder)) is None:
                step = next(steps)
                self._held.append((step, len(decoder.answer.text)))
                match = self.stops.find(decoder.answer.text, self._since())
                if step.is_stop:
                    reason = "stop"
                elif match is None:
                    yield self._settle(decoder, self.stops.showable(decoder.answer.text))
                    continue
                elif self._take_back(decoder, match):
                    continue
                else:
                    reason, shown = "stop_string", match.shown
                break
        yield self._finish(decoder, reason, shown)

    def _since(self) -> int:
        """Where a stop string that the last token completed may begin."""
        before = self._held[-2][1] if len(self._held) > 1 else self._settled_text
        return max(0, before - self.stops.longest)

    def _take_back(self, decoder: Decoder, match: Match) -> bool:
        """The base began the next turn: under the policy ``guide`` that may be undone."""
        token = decoder.answer.token_at(match.start)
        kept = [held for held in self._held if held[0].index < token]
        start = kept[-1][1] if kept else self._settled_text
        was_shown = start < self.shown
        if not match.is_marker or was_shown or not decoder.take_back(token):
            return False
        self._held = kept
        return True

    def _limit(self, decoder: Decoder) -> FinishReason | None:
        if len(decoder.answer.ids) >= self.max_tokens:
            return "length"
        if decoder.is_full():
            return "context"
        return "interrupted" if self.should_stop() else None

    def _settle(self, decoder: Decoder, end: int) -> Response:
        """Show the text up to ``end``; settle the steps that lie within it."""
        text = decoder.answer.text[self.shown : end]
        self.shown = max(self.shown, end)
        # A character that is not complete yet is left to the token that will complete it.
        settled = end - 1 if decoder.answer.pending else end
        pieces = []
        while self._held and self._held[0][1] <= settled:
            pieces.append(self._piece(decoder, *self._held.pop(0)))
        return Response(text, tuple(pieces), self.statistics)

    def _piece(self, decoder: Decoder, step: Step, end: int) -> Piece:
        text = decoder.answer.text[self._settled_text : end]
        self._settled_text = end
        self.statistics.add(step)
        return Piece(step, text)

    def _finish(self, decoder: Decoder, reason: FinishReason, shown: int | None = None) -> Response:
        """The last response: whatever was withheld, and the complete statistics."""
        answer = decoder.answer
        if answer.finish():  # it belongs to the last token that writes
            last = max(n for n, (step, _) in enumerate(self._held) if not step.is_stop)
            self._held[last:] = [(step, len(answer.text)) for step, _ in self._held[last:]]
        end = len(answer.text) if shown is None else shown
        text = answer.text[self.shown : end]
        pieces = tuple(self._piece(decoder, *held) for held in self._held)
        statistics = self.statistics
        statistics.base, statistics.aligned = (
            use_of(context).since(before)
            for context, before in zip(self._contexts(), self._before, strict=True)
        )
        statistics.peak_bytes = mx.get_peak_memory()
        statistics.text = answer.text[:end]
        statistics.finish_reason = reason
        return Response(text, pieces, statistics, reason)

    def _contexts(self) -> tuple[Context, Context]:
        return self.cache.base, self.cache.aligned
