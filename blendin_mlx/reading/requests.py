"""What one who decides a token asks for, so that several answers can be served together.

A decision is a generator: it yields a :data:`Request` where it needs a pass of a model or numbers
read back, and goes on with what it is sent. :func:`run` serves one decision at once; a batch
collects what all its rows ask for, and serves it in one pass.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from ..backend.mlx import mx
from .reader import Reader

T = TypeVar("T")


class Said(NamedTuple):
    """What a model says after some tokens."""

    logits: mx.array  # [1, V']
    probs: mx.array  # [1, V], the STOP class pooled


@dataclass(frozen=True)
class Reading:
    """Wants what the model of a context says after ``tokens``: :class:`Said`.

    ``draft`` may follow them, see :meth:`.context.Context.after`.
    """

    context: Reader
    tokens: Sequence[int]
    draft: Sequence[int] = ()


@dataclass(frozen=True)
class Values:
    """Wants scalars read back, as a list of floats."""

    arrays: Sequence[mx.array]


Request = Reading | Values
Deciding = Generator[Request, Any, T]


def said(context: Reader, tokens: Sequence[int], draft: Sequence[int] = ()) -> Deciding[Said]:
    """Ask for a :class:`Reading`."""
    answer: Said = yield Reading(context, tokens, draft)
    return answer


def values(arrays: Sequence[mx.array]) -> Deciding[list[float]]:
    """Ask for :class:`Values`."""
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
            if isinstance(item, Reading | Values):
                answer = serve(item)
            else:
                answer = None
                yield item


def serve(request: Request) -> Said | list[float]:
    """Serve one request alone."""
    if isinstance(request, Values):
        return read_back([request.arrays])[0]
    logits = request.context.after(request.tokens, request.draft)
    return Said(logits, request.context.model.vocabulary.distribution(logits))


def read_back(rows: Sequence[Sequence[mx.array]]) -> list[list[float]]:
    """Several lists of scalars in one array from the graph.

    Ids are exact in float32 up to 2**24.
    """
    parts = [part.reshape(()).astype(mx.float32) for row in rows for part in row]
    numbers: Any = iter(mx.stack(parts).tolist())  # type: ignore[arg-type]
    return [[next(numbers) for _ in row] for row in rows]
