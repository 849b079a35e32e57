"""Answers that are written side by side, each taken by whoever asked for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blendin_mlx.batch.batch_decoder import BatchDecoder
    from blendin_mlx.batch.batch_generation import BatchPrompt
    from blendin_mlx.decoding.answer_stream import Response


class Rows:
    """The rows of a batch as iterators that are stepped in turn.

    The one that needs a step takes it for all of them; the others find what came of it.

    Args:
        batch: where the answers are written.

    Example:
        >>> rows = Rows(BatchDecoder(pair))
        >>> one, two = (rows.answer(prompt, lambda: False) for prompt in prompts)
        >>> next(one), next(two)
    """

    def __init__(self, batch: BatchDecoder) -> None:
        self._batch = batch
        self._came: dict[int, deque[Response | BaseException]] = {}
        self._numbers = count()

    def answer(self, one: BatchPrompt, should_stop: Callable[[], bool]) -> Iterator[Response]:
        """Yield the parts of an answer.

        Args:
            one: what is answered.
            should_stop: asked before each token and each step of the prefill.

        Raises:
            BlendinError: this answer failed.
            BaseException: the step failed that all of them took.
        """
        from blendin_mlx.generation import prepared

        number = next(self._numbers)
        came = self._came[number] = deque()
        try:
            prompt = prepared(self._batch.pair, one.prompt, one.options)
            self._batch.add(number, prompt, one.options, one.seed, should_stop)
            finish = None
            while finish is None:
                while not came:
                    self._step()
                outcome = came.popleft()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
                finish = outcome.finish_reason
        finally:
            del self._came[number]

    def forget(self) -> None:
        """Forget what was kept of answers that have ended."""
        self._batch.forget()

    def _step(self) -> None:
        try:
            for number, outcome in self._batch.step():
                if number in self._came:
                    self._came[number].append(outcome)
        except BaseException as error:  # nobody can go on from a step that was not finished
            self._batch.close()
            for came in self._came.values():
                came.append(error)
