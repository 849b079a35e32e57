"""A session that answers several prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from .options.settings import Settings
from .pair_loading import LONGEST_PROMPT
from .session import Session

if TYPE_CHECKING:
    from blendin_mlx.batch.batch_generation import BatchPrompt, Outcome
    from blendin_mlx.decoding.answer_stream import Response


def check_batch(settings: Settings, size: int | None) -> None:
    """Refuse options that exclude each other.

    Raises:
        click.UsageError: a prompt cache holds one answer only.
    """
    if size != 1 and settings.prompt_cache is not None:
        raise click.UsageError("--prompt-cache cannot be used with --batch; leave one of them out")


class SideBySide:
    """Answers of a session, several at once.

    Args:
        session: its models and settings.
        size: how many at once, None for as many as pay; fewer where memory holds no more.

    Attributes:
        batch: where they are written.
        size: how many at once, at most.
    """

    def __init__(self, session: Session, size: int | None) -> None:
        from blendin_mlx.batch.batch_decoder import BatchDecoder

        self._session = session
        self.batch = BatchDecoder(session.pair, kv_bits=session.settings.kv_bits)
        if self.batch.obstacle is not None:
            session.say_once(f"one answer after the other: {self.batch.obstacle}")
        self.size = self._fitting(size)

    def _fitting(self, size: int | None) -> int:
        """Return how many answers to write at once."""
        from blendin_mlx.batch.batch_size import best_size
        from blendin_models.loading.memory import rows_that_fit
        from blendin_models.pass_costs import kept_costs

        session = self._session
        if self.batch.obstacle is not None:
            return 1
        wanted = best_size(kept_costs(session.pair)) if size is None else size
        if session.settings.force:
            return wanted
        tokens = session.settings.max_tokens + LONGEST_PROMPT
        room = rows_that_fit(self.batch.bytes_per_token * tokens)
        if size is not None and room < size:
            session.say_once(
                f"{room} answers at once, as memory holds no more; --force tries {size}"
            )
        return min(wanted, room)

    def prompt(self, messages: list[dict[str, str]]) -> BatchPrompt:
        """Return a conversation to be answered with the session's settings of now."""
        from blendin_mlx.batch.batch_generation import BatchPrompt
        from blendin_mlx.decoding.answer_options import AnswerOptions

        session = self._session
        prompt = session.prompt(messages)
        return BatchPrompt(prompt, AnswerOptions(**session.answer_options()), session.seed)

    def answer(
        self, prompts: Iterable[BatchPrompt], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[int, Outcome]]:
        """Answer prompts; yield parts of answers, or errors, with their index."""
        from blendin_mlx.batch.batch_generation import batch_stream
        from blendin_mlx.errors import BlendinError

        asked: dict[int, BatchPrompt] = {}  # those that are being answered

        def noted() -> Iterator[BatchPrompt]:
            for index, prompt in enumerate(prompts):
                asked[index] = prompt
                yield prompt

        for index, outcome in batch_stream(
            self.batch, noted(), size=self.size, should_stop=should_stop
        ):
            yield index, outcome
            if isinstance(outcome, BlendinError):
                del asked[index]
            elif outcome.finish_reason:
                self._session.remark(outcome, asked.pop(index).options.constraint)

    def answers(
        self, prompts: Iterable[BatchPrompt], should_stop: Callable[[], bool]
    ) -> list[list[Response]]:
        """Return answers, each with all its parts; those that were begun if told to stop.

        Raises:
            BlendinError: of the first answer that fails.
        """
        from blendin_mlx.errors import BlendinError

        parts: dict[int, list[Response]] = {}
        for index, outcome in self.answer(prompts, should_stop):
            if isinstance(outcome, BlendinError):
                raise outcome
            parts.setdefault(index, []).append(outcome)
        return [parts[index] for index in sorted(parts)]
