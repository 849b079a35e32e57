"""What the decision of a token asks for, so that several answers can be served together.

A decision is a generator: it yields a :data:`Request` where it needs a pass of a model or numbers
read back, and goes on with what it is sent. :func:`run` serves one decision at once; a batch
collects what all its rows ask for, and serves it in one pass.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from ..backend.mlx import mx
from .reader import Reader

T = TypeVar("T")


@dataclass(frozen=True)
class Pass:
    """Asks for the logits ``[1, V']`` of a reader's model after ``tokens``.

    ``draft`` may follow them, see :meth:`.context.Context.after`.
    """

    reader: Reader
    tokens: Sequence[int]
    draft: Sequence[int] = ()


@dataclass(frozen=True)
class Values:
    """Asks for scalars to be read back, as a list of floats."""

    arrays: Sequence[mx.array]


Request = Pass | Values
Deciding = Generator[Request, Any, T]


def logits_after(
    reader: Reader, tokens: Sequence[int], draft: Sequence[int] = ()
) -> Deciding[mx.array]:
    """Ask for a :class:`Pass`, and return the logits."""
    logits: mx.array = yield Pass(reader, tokens, draft)
    return logits


def values(arrays: Sequence[mx.array]) -> Deciding[list[float]]:
    """Ask for :class:`Values`, and return them."""
    answer: list[float] = yield Values(arrays)
    return answer


def run(deciding: Deciding[T]) -> T:
    """Serve a decision alone, and return what it comes to."""
    answer: Any = None
    while True:
        try:
            request = deciding.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        answer = serve(request)


def served(running: Generator[Request | T, Any, None]) -> Iterator[T]:
    """Serve alone whatever is asked for, and yield the rest."""
    with closing(running):
        answer: Any = None
        while True:
            try:
                item = running.send(answer)
            except StopIteration:
                return
            if isinstance(item, Pass | Values):
                answer = serve(item)
            else:
                answer = None
                yield item


def serve(request: Request) -> mx.array | list[float]:
    """Serve one request alone."""
    if isinstance(request, Values):
        return read_back([request.arrays])[0]
    return request.reader.after(request.tokens, request.draft)


def read_back(rows: Sequence[Sequence[mx.array]]) -> list[list[float]]:
    """Read back several lists of scalars in one array from the graph.

    Ids are exact in float32 up to 2**24.
    """
    parts = [part.reshape(()).astype(mx.float32) for row in rows for part in row]
    numbers: Any = iter(mx.stack(parts).tolist())  # type: ignore[arg-type]
    return [[next(numbers) for _ in row] for row in rows]
