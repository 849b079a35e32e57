"""A session that answers several prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from .pair_loading import LONGEST_PROMPT
from .session import Session

if TYPE_CHECKING:
    from blendin_mlx.batch.batch_decoder import BatchDecoder, Outcome
    from blendin_mlx.batch.batch_generation import BatchPrompt


def answer_several(
    session: Session,
    prompts: Iterable[BatchPrompt],
    size: int | None,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[int, Outcome]]:
    """Answer prompts side by side; yield parts of answers, or errors, with their index.

    Args:
        size: how many at once, None for as many as pay; fewer where memory holds no more.
    """
    from blendin_mlx.batch.batch_decoder import BatchDecoder
    from blendin_mlx.batch.batch_generation import batch_stream
    from blendin_mlx.errors import BlendinError

    batch = BatchDecoder(session.pair, kv_bits=session.settings.kv_bits)
    if batch.obstacle is not None:
        session.say_once(f"one answer after the other: {batch.obstacle}")
    asked: list[BatchPrompt] = []

    def noted() -> Iterator[BatchPrompt]:
        for prompt in prompts:
            asked.append(prompt)
            yield prompt

    rows = _rows(session, batch, size)
    for index, outcome in batch_stream(batch, noted(), size=rows, should_stop=should_stop):
        yield index, outcome
        if not isinstance(outcome, BlendinError) and outcome.finish_reason:
            session.look_at_end(outcome, asked[index].options.constraint)


def _rows(session: Session, batch: BatchDecoder, size: int | None) -> int:
    """Return how many answers to write at once."""
    from blendin_mlx.batch.batch_size import best_size
    from blendin_models.loading.memory import rows_that_fit
    from blendin_models.pass_costs import kept_costs

    wanted = best_size(kept_costs(session.pair)) if size is None else size
    if session.settings.force or batch.obstacle is not None:
        return wanted
    room = rows_that_fit(batch.bytes_per_token * (session.settings.max_tokens + LONGEST_PROMPT))
    if size is not None and room < size:
        session.say_once(f"{room} answers at once, as memory holds no more; --force tries {size}")
    return min(wanted, room)
