"""The queue before the models: many threads submit work, one thread alone runs it.

Work is a function that yields its results as it goes. Whoever owns the models calls
:meth:`Engine.run`; work is stepped in turn, and what is cancelled ends with the step it is in.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ApiError, as_api_error, busy, unavailable

Work = Callable[[Callable[[], bool]], Iterator[Any]]
State = Literal["loading", "ready", "failing", "stopped"]


@dataclass(frozen=True)
class Result:
    """Something that work yielded."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """What ended work early; nothing follows."""

    error: ApiError


@dataclass(frozen=True)
class Done:
    """Work has ended; nothing follows."""


Event = Result | Failure | Done


class Ticket:
    """A piece of work on its way.

    Args:
        work: called on the decoding thread with a function that says whether to stop; what it
            yields are the results.
        tell: called on the decoding thread with each event.
        quick: it takes no time worth speaking of, and is run between two steps of other work.
    """

    def __init__(self, work: Work, tell: Callable[[Event], None], quick: bool = False) -> None:
        self.work, self.tell, self.quick = work, tell, quick
        self._cancelled = False

    def cancel(self) -> None:
        """Ask for an end within one step; any thread may."""
        self._cancelled = True

    def is_cancelled(self) -> bool:
        """Return True once nobody waits for the results."""
        return self._cancelled


class Engine:
    """Runs submitted work on the thread that calls :meth:`run`.

    Args:
        capacity: how many pieces of work may wait or run at once.
        rows: how many of them run side by side, a step of each in turn; it may be set later.
        recover: called after a fault, to throw away what it may have spoilt.

    Attributes:
        state: ``loading`` until :meth:`run` is called, ``failing`` after a fault until something
            succeeds, ``stopped`` at the end.

    Example:
        >>> engine = Engine(capacity=8)
        >>> engine.submit([Ticket(lambda should_stop: iter([1, 2]), print)])
        >>> engine.stop()   # usually from another thread, or a signal handler
    """

    def __init__(
        self, capacity: int, rows: int = 1, recover: Callable[[], None] = lambda: None
    ) -> None:
        self.state: State = "loading"
        self.capacity = capacity
        self.recover = recover
        self.rows = rows
        self._unfinished = 0
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._waiting: deque[Ticket] = deque()
        self._running: deque[tuple[Ticket, Iterator[Any]]] = deque()
        self._stopping = False

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Put work at the end of the queue, all of it or none.

        Raises:
            ApiError: 429 where there is no room for it, 503 where nothing runs any more.
        """
        with self._lock:
            if self._stopping:
                raise unavailable("the server is shutting down")
            if self._unfinished + len(tickets) > self.capacity:
                raise busy()
            self._unfinished += len(tickets)
            for ticket in tickets:
                self._inbox.put(ticket)

    def stop(self) -> None:
        """Ask for an end within one step; any thread or signal handler may."""
        self._stopping = True
        self._inbox.put(None)

    def is_alone(self) -> bool:
        """Return True while no more than one piece of work waits or runs."""
        return self._unfinished <= 1

    def is_stopping(self) -> bool:
        """Return True once an end was asked for."""
        return self._stopping

    def run(self) -> None:
        """Run work until :meth:`stop` is called; whatever is left then is told so."""
        self.state = "ready"
        try:
            while not self._stopping:
                self._receive()
                if self._waiting and len(self._running) < self.rows:
                    self._begin(self._waiting.popleft())  # one: it may have much to read
                for _ in range(len(self._running)):
                    self._advance(*self._running.popleft())
        finally:
            self._close()

    def _receive(self) -> None:
        """Take what has come in; wait for it where there is nothing else to do."""
        idle = not self._running and not self._waiting
        while idle or not self._inbox.empty():
            ticket = self._inbox.get()
            idle = False
            if ticket is not None and ticket.quick:
                self._run_through(ticket)
            elif ticket is not None:
                self._waiting.append(ticket)

    def _run_through(self, ticket: Ticket) -> None:
        self._begin(ticket)
        while self._running and self._running[-1][0] is ticket:
            self._advance(*self._running.pop())

    def _begin(self, ticket: Ticket) -> None:
        def should_stop() -> bool:
            return self._stopping or ticket.is_cancelled()

        if ticket.is_cancelled():
            self._finish(ticket, Done())
        else:
            self._running.append((ticket, ticket.work(should_stop)))

    def _advance(self, ticket: Ticket, results: Iterator[Any]) -> None:
        """Take one step of running work."""
        try:
            ticket.tell(Result(next(results)))
        except StopIteration:
            self.state = "ready"
            self._finish(ticket, Done())
        except (KeyboardInterrupt, SystemExit):
            self._stopping = True
            self._finish(ticket, Done())
            raise
        except BaseException as error:  # a panic of a library written in Rust is no Exception
            self._fail(ticket, error)
        else:
            self._running.append((ticket, results))

    def _fail(self, ticket: Ticket, error: BaseException) -> None:
        told = as_api_error(error)
        if told.status >= 500:
            self.state = "failing"
            self.recover()
        self._finish(ticket, Failure(told))

    def _finish(self, ticket: Ticket, last: Event) -> None:
        with self._lock:
            self._unfinished -= 1
        if self._stopping and isinstance(last, Done):
            last = Failure(unavailable("the server is shutting down"))
        ticket.tell(last)

    def _close(self) -> None:
        """Leave nobody waiting."""
        self.state = "stopped"
        with self._lock:
            self._stopping = True
        left = [*(ticket for ticket, _ in self._running), *self._waiting]
        while not self._inbox.empty():
            left += filter(None, [self._inbox.get()])
        for ticket in left:
            self._finish(ticket, Done())
