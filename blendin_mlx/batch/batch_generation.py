"""What a caller uses: many prompts, their answers in pieces or as strings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backend.mlx import mx
from ..decoding.answer_options import AnswerOptions
from ..decoding.answer_stream import Response
from ..errors import BlendinError
from ..generation import prepared
from ..model import Pair
from ..prompts import Message, PairPrompt
from .batch_decoder import BatchDecoder

Outcome = Response | BlendinError
SIZE = 8  # answers at once, unless told otherwise


@dataclass(frozen=True)
class BatchPrompt:
    """A prompt and the options of its answer.

    Args:
        prompt: as :func:`.generation.stream_generate` takes it.
        options: of this answer alone.
        seed: of its random numbers: it draws what it draws alone after ``mx.random.seed(seed)``.
    """

    prompt: str | Sequence[Message] | PairPrompt
    options: AnswerOptions = field(default_factory=AnswerOptions)
    seed: int | None = None


def batch_stream(
    batch: BatchDecoder,
    prompts: Iterable[BatchPrompt],
    *,
    size: int = SIZE,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Outcome]]:
    """Answer prompts side by side; a prompt begins when there is room, which an end makes.

    Args:
        batch: the models; one answer at a time where it has an obstacle.
        prompts: read as there is room.
        size: how many answers are written at once, at most.
        should_stop: asked before each token: end all answers, and begin none.

    Yields:
        The index of a prompt and a part of its answer, or the error that ended this answer. The
        answer is that of :func:`.generation.stream_generate` for this prompt alone.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> for index, outcome in batch_stream(BatchDecoder(pair), map(BatchPrompt, questions)):
        ...     if not isinstance(outcome, BlendinError): print(index, outcome.text)
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    if batch.obstacle is not None:
        size = 1
    coming = enumerate(prompts)
    mx.reset_peak_memory()
    try:
        while True:
            while len(batch) < size and not should_stop():
                if (new := next(coming, None)) is None:
                    break
                index, one = new
                try:
                    prompt = prepared(batch.pair, one.prompt, one.options)
                    batch.add(index, prompt, one.options, one.seed, should_stop)
                except BlendinError as error:
                    yield index, error
            outcomes = batch.step()
            if not outcomes:
                return
            for index, outcome in outcomes:
                if not isinstance(outcome, Response | BlendinError):
                    raise outcome
                yield index, outcome
    finally:
        batch.close()


def batch_generate(
    pair: Pair,
    prompts: Sequence[str | Sequence[Message] | PairPrompt],
    *,
    size: int = SIZE,
    **options: Any,
) -> list[str]:
    """Answer prompts side by side; the options are those of :class:`.AnswerOptions`.

    Raises:
        BlendinError: of the first prompt that fails.

    Example:
        >>> batch_generate(pair, ["Why is the sky blue?", "How do I boil an egg?"])
    """
    wanted = AnswerOptions(**options)
    texts = [""] * len(prompts)
    asked = (BatchPrompt(prompt, wanted) for prompt in prompts)
    for index, outcome in batch_stream(BatchDecoder(pair), asked, size=size):
        if isinstance(outcome, BlendinError):
            raise outcome
        texts[index] += outcome.text
    return texts
