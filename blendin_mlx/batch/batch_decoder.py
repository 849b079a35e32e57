"""Many answers written side by side: what they ask for is served together.

Each answer decides for itself, by the code that decides a single one, and waits where it needs a
pass of a model or numbers read back. All rows that wait for the base are read in one pass; those
that ask the guide, in one pass over what each has not read; all numbers come back in one array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ..decoding.answer_options import AnswerOptions
from ..decoding.answer_stream import Response, Running
from ..drafting.drafter import Drafter
from ..generation import begin_answer
from ..model import Pair
from ..prompt_cache import PromptCache, make_prompt_cache
from ..prompts import PairPrompt
from ..reading.reader import Progress
from ..reading.requests import Pass, Request, Values, read_back, serve
from ..roles import Role, by_role
from .ragged_context import RaggedContext, RaggedRow
from .random_stream import RandomStream

# Who is served first: all rows meet again at the base.
ORDER: tuple[Role, ...] = ("reference", "aligned", "base")
KEPT_BYTES = 2**28  # of answers that have ended, unless told otherwise


@dataclass(eq=False)
class RowReaders:
    """The rows of one answer, by role; several guides are not read in rows."""

    base: RaggedRow
    aligned: RaggedRow
    reference: RaggedRow | None = None
    others: tuple[RaggedRow, ...] = ()

    def contexts(self) -> dict[Role, RaggedRow]:
        """Return the rows by role; the reference model's only where there is one."""
        return by_role(self.base, self.aligned, self.reference)

    def leave(self, keep: bool) -> None:
        """Make room for another answer."""
        for row in self.contexts().values():
            row.leave(keep)


@dataclass(eq=False)
class _Answer:
    index: int
    running: Running
    readers: RowReaders | PromptCache
    random: RandomStream | None
    waiting: Request = field(default_factory=lambda: Values(()))

    def drawing(self) -> AbstractContextManager[None]:
        return self.random.drawing() if self.random else nullcontext()

    def leave(self, keep: bool) -> None:
        if isinstance(self.readers, RowReaders):
            self.readers.leave(keep)


class BatchDecoder:
    """Decodes several answers at once; answers join and leave at any time.

    Args:
        pair: the models.
        kv_bits: quantize caches to so many bits; such caches hold one answer only.

    Attributes:
        obstacle: why these models can decode only one answer at a time, in words; None where
            they can decode several.

    Example:
        >>> batch = BatchDecoder(pair)
        >>> batch.add(0, build_prompt(pair, "Hi"), AnswerOptions())
        >>> while batch:
        ...     for index, outcome in batch.step(): ...
    """

    def __init__(self, pair: Pair, *, kv_bits: int | None = None) -> None:
        self.pair = pair
        self._answers: list[_Answer] = []
        self._contexts = {role: RaggedContext(model) for role, model in pair.models().items()}
        self.obstacle = "quantized caches cannot hold several answers" if kv_bits else None
        if pair.others:
            self.obstacle = "several guides are asked for one answer at a time"
        for context in self._contexts.values():
            self.obstacle = self.obstacle or context.obstacle()
        self.keep(KEPT_BYTES)
        self._cache = make_prompt_cache(pair, kv_bits=kv_bits) if self.obstacle else None
        self._outcomes: list[tuple[int, Response | Exception]] = []

    def __len__(self) -> int:
        """Return how many answers are being written."""
        return len(self._answers)

    def add(
        self,
        index: int,
        prompt: PairPrompt,
        options: AnswerOptions,
        seed: int | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Progress = lambda done, total: None,
    ) -> None:
        """Let an answer join, and read its prompt.

        Args:
            index: names its outcomes.
            prompt: what both models read.
            options: the options of this answer.
            seed: of its random numbers, where there is a sampler.
            should_stop: called before each token and each step of the prefill.
            progress: called with the progress of the prefill.
        """
        assert self.obstacle is None or not self._answers
        readers = self._cache or self._join()
        stream = begin_answer(
            self.pair, prompt, options, readers, Drafter("off"), should_stop, progress
        )
        random = RandomStream(seed) if options.sampler else None
        answer = _Answer(index, stream.running(), readers, random)
        self._answers.append(answer)
        self._go_on(answer, None)

    def _join(self) -> RowReaders:
        rows = {role: context.join() for role, context in self._contexts.items()}
        return RowReaders(rows["base"], rows["aligned"], rows.get("reference"))

    @property
    def bytes_per_token(self) -> int:
        """What a token takes in the caches of all models."""
        return sum(context.bytes_per_token for context in self._contexts.values())

    def step(self) -> list[tuple[int, Response | Exception]]:
        """Go on until something comes of an answer; return what did, by index.

        An answer has left when it has finished, or failed with an error; the others go on.
        """
        while self._answers and not self._outcomes:
            self._serve()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """Leave the answers as they are; others may join afterwards."""
        for answer in self._answers:
            answer.running.close()
        for context in self._contexts.values():
            context.clear()
        self._answers = []
        self._outcomes = []

    def keep(self, limit: int) -> None:
        """Set how many bytes may be kept of answers that have ended.

        Prompts that begin as one of them need not be read again as far as that.
        """
        for context in self._contexts.values():  # to each what its tokens take
            share = context.bytes_per_token / max(1, self.bytes_per_token)
            context.kept.limit = int(limit * share)

    def forget(self) -> None:
        """Forget what was kept of answers that have ended."""
        for context in self._contexts.values():
            context.kept.clear()

    def _serve(self) -> None:
        """Serve one kind of request, in all answers that wait for it."""
        waiting = [(a, a.waiting) for a in self._answers if isinstance(a.waiting, Values)]
        if waiting:
            numbers = read_back([request.arrays for _, request in waiting])
            for (answer, _), read in zip(waiting, numbers, strict=True):
                self._go_on(answer, read)
            return
        if self._cache is not None:
            for answer in list(self._answers):
                self._serve_alone(answer)
            return
        self._read(next(role for role in ORDER if any(self._asking(role))))

    def _asking(self, role: Role) -> Iterator[tuple[RaggedRow, Sequence[int], _Answer]]:
        """Find the rows of a model that an answer waits for, what they shall read, and for whom."""
        for answer in self._answers:
            if not isinstance(request := answer.waiting, Pass):
                continue
            row = request.reader
            if isinstance(row, RaggedRow) and row.rows is self._contexts.get(role):
                yield row, request.tokens, answer

    def _read(self, role: Role) -> None:
        """Let a model read for all answers that wait for it, in one pass.

        Where that fails each reads alone, so that the failure ends the answer that it belongs to.
        """
        asking = sorted(self._asking(role), key=lambda one: one[0].number)
        try:
            logits = self._contexts[role].after([(row, tokens) for row, tokens, _ in asking])
        except Exception:
            for _, _, answer in asking:
                self._serve_alone(answer)
            return
        for n, (_, _, answer) in enumerate(asking):
            self._go_on(answer, logits[n : n + 1])

    def _serve_alone(self, answer: _Answer) -> None:
        try:
            served = serve(answer.waiting)
        except Exception as error:
            answer.running.close()
            self._end(answer, error)
        else:
            self._go_on(answer, served)

    def _go_on(self, answer: _Answer, served: Any) -> None:
        """Give an answer what it waits for, and keep what comes of it until it waits again."""
        try:
            with answer.drawing():
                item = answer.running.send(served)
                while isinstance(item, Response):
                    self._outcomes.append((answer.index, item))
                    item = answer.running.send(None)
            answer.waiting = item
        except StopIteration:
            self._end(answer)
        except Exception as error:
            self._end(answer, error)

    def _end(self, answer: _Answer, error: Exception | None = None) -> None:
        """Let an answer leave; what a failure may have spoilt is not kept."""
        if error is not None:
            self._outcomes.append((answer.index, error))
        self._answers.remove(answer)
        answer.leave(keep=error is None)
