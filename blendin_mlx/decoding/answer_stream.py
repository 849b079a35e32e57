"""An answer as it becomes text: withheld bytes, stop strings, limits, statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from ..answer_statistics import FinishReason, Statistics, use_of
from ..backend.mlx import mx
from ..drafting.drafter import Drafting
from ..prompt_cache import PromptCache
from ..reading.context import Context, Progress
from ..step import Step
from .decoder import Decoder
from .stop_strings import Match, StopStrings


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
            string, or a turn marker that a limit cut off, takes away.
        finish_reason: set in the last response only.
        statistics: counts so far; complete in the last response.
    """

    text: str
    pieces: tuple[Piece, ...]
    statistics: Statistics
    finish_reason: FinishReason | None = None


class _StopRequested(Exception):  # noqa: N818 - no error: the caller wants it
    """The caller asked for an end while the prompt was read."""


@dataclass
class Answering:
    """One answer being written: what is decided, settled and shown.

    Args:
        cache: the contexts of the models.
        statistics: counts to keep.
        stops: strings that end the answer.
        max_tokens: most tokens to produce.
        drafting: what is proposed, for the statistics.
        should_stop: asked before each token and each step of the prefill.
        progress: told about the prefill.
    """

    cache: PromptCache
    statistics: Statistics
    stops: StopStrings
    max_tokens: int
    drafting: Drafting
    should_stop: Callable[[], bool]
    progress: Progress
    shown: int = 0
    _held: list[tuple[Step, int]] = field(default_factory=list)  # steps and where their text ends
    _settled_text: int = 0

    def __post_init__(self) -> None:
        self._before = [use_of(context) for context in self.cache.contexts()]
        self._drafted = self.drafting.proposed, self.drafting.accepted

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

        def watch(done: int, _: int) -> None:
            self.watch(before + done, total)

        try:
            for context, ids in unread:
                context.prefill(ids, watch)
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
        with closing(decoder.__iter__()) as steps:
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
        if shown is None:
            shown = len(answer.text) if reason == "stop" else self.stops.end_of(answer.text)
        end = max(shown, self.shown)
        text = answer.text[self.shown : end]
        pieces = tuple(self._piece(decoder, *held) for held in self._held)
        statistics = self.statistics
        statistics.base, statistics.aligned, *others = (
            use_of(context).since(before)
            for context, before in zip(self.cache.contexts(), self._before, strict=True)
        )
        statistics.reference = others[0] if others else None
        statistics.drafted = self.drafting.proposed - self._drafted[0]
        statistics.accepted = self.drafting.accepted - self._drafted[1]
        statistics.draft_off = self.drafting.off_because
        statistics.peak_bytes = mx.get_peak_memory()
        statistics.text = answer.text[:end]
        statistics.finish_reason = reason
        return Response(text, pieces, statistics, reason)
