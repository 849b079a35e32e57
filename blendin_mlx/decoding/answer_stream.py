"""The answer as a stream of text, with withheld bytes, stop strings, limits and statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..answer_statistics import FinishReason, Statistics, use_of
from ..backend.mlx import mx
from ..drafting.drafter import Drafter
from ..reading.reader import Progress, Reader
from ..reading.requests import Request, served
from ..roles import Role
from ..step import Step
from ..tokens.answer_text import AnswerText
from .decoder import Decoder
from .stop_strings import Match, StopStrings


@dataclass(frozen=True)
class Piece:
    """A settled step, and the characters that its token completed."""

    step: Step
    text: str


@dataclass(frozen=True)
class Response:
    """A part of the answer that will not change again.

    Attributes:
        text: what can be shown now; empty while bytes or a possible stop string are withheld.
        pieces: the steps that became final. Their texts add up to ``text``, except for what a stop
            string, or a turn marker that a limit cut off, removes.
        finish_reason: set in the last response only.
        statistics: counts so far; complete in the last response.
    """

    text: str
    pieces: tuple[Piece, ...]
    statistics: Statistics
    finish_reason: FinishReason | None = None


# An answer that asks for passes, and yields responses in between.
Running = Generator[Request | Response, Any, None]


class _StopRequested(Exception):  # noqa: N818 - not an error: the caller wants it
    """The caller asked to stop while the prompt was read."""


@dataclass
class AnswerStream:
    """One answer while it is written: its steps are decided, then final, then shown.

    Args:
        decoder: decides the tokens.
        answer: the decoder's output so far; it is read here, and completed at the end.
        prompts: the readers, and what each reads before the first step.
        readers: the readers of all models, by role.
        statistics: the counts to update.
        stops: strings that end the answer.
        max_tokens: most tokens to produce.
        drafter: its drafts are counted.
        should_stop: called before each token and each step of the prefill.
        progress: called with the progress of the prefill.
    """

    decoder: Decoder
    answer: AnswerText
    prompts: Sequence[tuple[Reader, list[int]]]
    readers: Mapping[Role, Reader]
    statistics: Statistics
    stops: StopStrings
    max_tokens: int
    drafter: Drafter
    should_stop: Callable[[], bool]
    progress: Progress
    _shown: int = 0
    _held: list[tuple[Step, int]] = field(default_factory=list)  # steps and where their text ends
    _settled_text: int = 0

    def __post_init__(self) -> None:
        self._before = {role: use_of(context) for role, context in self.readers.items()}
        self._drafted = self.drafter.proposed, self.drafter.accepted

    def responses(self) -> Iterator[Response]:
        """Read the prompts, then decode; yield what became final after each token."""
        mx.reset_peak_memory()
        return served(self.running())

    def running(self) -> Running:
        """Do what :meth:`responses` does, and ask for passes on the way."""
        started = time.perf_counter()
        try:
            self._prefill()
            yield from self._decode(started)
        except _StopRequested:
            yield self._timed(self._finish("interrupted"), started)

    def _prefill(self) -> None:
        started = time.perf_counter()
        unread = [(context, context.move_to(ids)) for context, ids in self.prompts]
        total = sum(len(ids) for _, ids in unread)
        before = 0

        def watch(done: int, _: int) -> None:
            self.progress(before + done, total)
            if self.should_stop():
                raise _StopRequested

        try:
            for context, ids in unread:
                context.prefill(ids, watch)
                before += len(ids)
        finally:
            self.statistics.prefill_s = time.perf_counter() - started

    def _timed(self, response: Response, started: float) -> Response:
        statistics = self.statistics
        statistics.decode_s = time.perf_counter() - started - statistics.prefill_s
        return response

    def _decode(self, started: float) -> Running:
        shown: int | None = None
        try:
            while (reason := self._limit()) is None:
                step = yield from self.decoder.step()
                self._held.append((step, len(self.answer.text)))
                match = self.stops.find(self.answer.text, self._since())
                if step.is_stop:
                    reason = "stop"
                elif match is None:
                    response = self._settle(self.stops.showable(self.answer.text))
                    yield self._timed(response, started)
                    continue
                elif self._take_back(match):
                    continue
                else:
                    reason, shown = "stop_string", match.shown
                break
        finally:
            self.decoder.settle()
        yield self._timed(self._finish(reason, shown), started)

    def _since(self) -> int:
        """Return where a stop string that the last token completed may begin."""
        before = self._held[-2][1] if len(self._held) > 1 else self._settled_text
        return max(0, before - self.stops.longest)

    def _take_back(self, match: Match) -> bool:
        """Undo a turn that the base began itself, under the policy ``guide``; True if undone."""
        token = self.answer.token_at(match.start)
        kept = [held for held in self._held if held[0].index < token]
        start = kept[-1][1] if kept else self._settled_text
        was_shown = start < self._shown
        if not match.is_marker or was_shown or not self.decoder.take_back(token):
            return False
        self._held = kept
        return True

    def _limit(self) -> FinishReason | None:
        if len(self.answer.ids) >= self.max_tokens:
            return "length"
        if self.decoder.is_full():
            return "context"
        return "interrupted" if self.should_stop() else None

    def _settle(self, end: int) -> Response:
        """Show the text up to ``end``; return it with the steps that lie within it."""
        text = self.answer.text[self._shown : end]
        self._shown = max(self._shown, end)
        # An incomplete character is left to the token that will complete it.
        settled = end - 1 if self.answer.pending else end
        pieces = []
        while self._held and self._held[0][1] <= settled:
            pieces.append(self._piece(*self._held.pop(0)))
        return Response(text, tuple(pieces), self.statistics)

    def _piece(self, step: Step, end: int) -> Piece:
        text = self.answer.text[self._settled_text : end]
        self._settled_text = end
        self.statistics.add(step)
        return Piece(step, text)

    def _finish(self, reason: FinishReason, shown: int | None = None) -> Response:
        """Return the last response, with the withheld text and the complete statistics."""
        answer = self.answer
        if answer.finish():  # it belongs to the last token that writes
            last = max(n for n, (step, _) in enumerate(self._held) if not step.is_stop)
            self._held[last:] = [(step, len(answer.text)) for step, _ in self._held[last:]]
        if shown is None:
            shown = len(answer.text) if reason == "stop" else self.stops.end_of(answer.text)
        end = max(shown, self._shown)
        text = answer.text[self._shown : end]
        pieces = tuple(self._piece(*held) for held in self._held)
        self._complete(answer.text[:end], reason)
        return Response(text, pieces, self.statistics, reason)

    def _complete(self, text: str, reason: FinishReason) -> None:
        """Fill in the statistics that are known at the end."""
        statistics = self.statistics
        uses = {
            role: use_of(context).since(self._before[role])
            for role, context in self.readers.items()
        }
        statistics.base, statistics.aligned = uses.pop("base"), uses.pop("aligned")
        statistics.reference = uses.pop("reference", None)
        statistics.others = uses
        statistics.drafted = self.drafter.proposed - self._drafted[0]
        statistics.accepted = self.drafter.accepted - self._drafted[1]
        statistics.draft_off = self.drafter.off_because
        statistics.peak_bytes = mx.get_peak_memory()
        statistics.text = text
        statistics.finish_reason = reason
