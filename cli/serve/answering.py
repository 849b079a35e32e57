"""Answers on their way from the decoding thread to a client: as one object, or as a stream."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from .engine import Done, Engine, Event, Failure, Ticket, Work
from .errors import ApiError
from .parts import Part, Start, joined
from .replies import ChoiceWriter, Head, usage_of

COMMENT = b": working\n\n"  # clients skip it
END = b"data: [DONE]\n\n"


class Answers:
    """The results of several pieces of work, as they come.

    Args:
        engine: runs the work.
        works: one for each answer.
        quick: see :class:`.engine.Ticket`.

    Raises:
        ApiError: there is no room for them.
    """

    def __init__(self, engine: Engine, works: Sequence[Work], quick: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._early: deque[tuple[int, Event]] = deque()
        tell = self._tell
        self._tickets = [Ticket(work, partial(tell, n), quick) for n, work in enumerate(works)]
        engine.submit(self._tickets)

    def cancel(self) -> None:
        """End all of them within one step."""
        for ticket in self._tickets:
            ticket.cancel()

    def _tell(self, index: int, event: Event) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody is left to be told
            self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

    async def begin(self, seconds: float) -> None:
        """Wait for the first part of an answer, but not for longer than this.

        Raises:
            ApiError: the request failed; so far nothing was sent.
        """
        waiting = self._loop.time() + seconds
        while (left := waiting - self._loop.time()) > 0:
            try:
                index, event = await asyncio.wait_for(self._events.get(), left)
            except asyncio.TimeoutError:
                return
            if isinstance(event, Failure):
                raise event.error
            self._early.append((index, event))
            if isinstance(event, Done) or isinstance(event.value, Part):
                return

    async def results(
        self, pause: float | None = None
    ) -> AsyncGenerator[tuple[int, Any] | None, None]:
        """Yield the results, each with the number of its work.

        Args:
            pause: seconds of silence after which None is yielded.

        Raises:
            ApiError: one of them failed.
        """
        left = len(self._tickets)
        while left:
            try:
                index, event = await self._next(pause)
            except asyncio.TimeoutError:
                yield None
                continue
            if isinstance(event, Failure):
                raise event.error
            if isinstance(event, Done):
                left -= 1
            else:
                yield index, event.value

    async def all(self) -> AsyncGenerator[tuple[int, Any], None]:
        """Yield the results however long they take; see :meth:`results`."""
        async for result in self.results():
            if result is not None:
                yield result

    async def _next(self, pause: float | None) -> tuple[int, Event]:
        if self._early:
            return self._early.popleft()
        return await asyncio.wait_for(self._events.get(), pause)


@dataclass(frozen=True)
class Form:
    """How a reply is written.

    Args:
        head: what its objects begin with.
        choice: makes the writer of a choice, of its number and what is known at its start.
        prompts: how many prompts are answered.
        include_usage: a stream tells how many tokens there were.
    """

    head: Head
    choice: Callable[[int, Start], ChoiceWriter]
    prompts: int
    include_usage: bool


class Reply:
    """A reply that grows: its answers, and what the log says of them."""

    def __init__(self, answers: Answers, form: Form) -> None:
        self._answers, self._form = answers, form
        self._lasts: dict[int, Part] = {}

    async def whole(self) -> dict[str, Any]:
        """Return the reply as one object."""
        parts: dict[int, list[Part]] = {}
        writers: dict[int, ChoiceWriter] = {}
        async for index, value in self._answers.all():
            if isinstance(value, Start):
                writers[index] = self._form.choice(index, value)
            else:
                parts.setdefault(index, []).append(value)
        whole = {index: joined(parts[index]) for index in sorted(parts)}
        self._lasts = whole
        choices = [writers[index].whole(part) for index, part in whole.items()]
        return self._form.head.object(choices, self._usage())

    async def stream(self, pause: float) -> AsyncGenerator[bytes, None]:
        """Yield the reply as server-sent events."""
        head, usage = self._form.head, {"usage": None} if self._form.include_usage else {}
        writers: dict[int, ChoiceWriter] = {}
        try:
            async for result in self._answers.results(pause):
                if result is None:
                    yield COMMENT
                    continue
                index, value = result
                if isinstance(value, Start):
                    writers[index] = self._form.choice(index, value)
                    choice = writers[index].first()
                else:
                    choice = writers[index].piece(value)
                    self._keep(index, value)
                if choice is not None:
                    yield event({**head.chunk([choice]), **usage})
            if self._form.include_usage:
                yield event({**head.chunk([]), "usage": self._usage()})
            yield END
        except ApiError as error:
            yield event(error.as_json())

    def _keep(self, index: int, part: Part) -> None:
        if part.finish is not None:
            self._lasts[index] = part

    def _usage(self) -> dict[str, Any]:
        return usage_of([self._lasts[index] for index in sorted(self._lasts)], self._form.prompts)

    def note(self) -> str:
        """Return what the log says: tokens, interventions, why it ended."""
        lasts = self._lasts.values()
        tokens = sum(part.usage[1] for part in lasts)
        asked = sum(part.blend.get("interventions", 0) for part in lasts)
        ends = ", ".join(sorted({str(part.finish) for part in lasts}))
        return f"{tokens} tokens, {asked} interventions, end: {ends}"


def event(value: dict[str, Any]) -> bytes:
    """Return an object as a server-sent event."""
    return b"data: " + as_bytes(value) + b"\n\n"


def as_bytes(value: Any) -> bytes:
    """Return JSON in ASCII: some clients take U+2028 for the end of a line."""
    return json.dumps(value, allow_nan=False).encode()
