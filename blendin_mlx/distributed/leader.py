"""Rank 0's side: it asks, and waits for answers that an interrupt may leave unread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np

from ..backend.mlx import mx
from ..errors import MachineError
from ..roles import Role
from .channel import Connection, Frame, Kind

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
Progress = Callable[[str, int, int], None]


class Leader:
    """What rank 0 has of another machine, or of all: requests, and their answers.

    A thread reads what comes, so that Ctrl-C ends the wait for an answer and no message is ever
    read in part. An answer to a request that was given up is recognised by its serial number.

    Args:
        channel: the connection.
    """

    def __init__(self, channel: Connection) -> None:
        self.channel = channel
        self.name = channel.peer
        self._roles: list[Role] = []  # as the other machine counts them
        self._serial = 0
        self._contexts = 0
        self._dropped: deque[int] = deque()
        self._come: SimpleQueue[Frame | MachineError] = SimpleQueue()
        self._lost: MachineError | None = None
        self._is_lost = Event()
        Thread(target=self._read, name="messages", daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                self._come.put(self.channel.receive())
        except MachineError as error:
            self._lost = error
            self._is_lost.set()
            self._come.put(error)

    def lost(self, within_s: float) -> MachineError | None:
        """Return why nothing comes any more; None if within some seconds the machine is there."""
        self._is_lost.wait(within_s)
        return self._lost

    def ask(self, kind: Kind, first: int = 0, second: int = 0, payload: bytes = b"") -> Frame:
        """Send a request, and return the answer.

        Args:
            kind: see :class:`.channel.Frame`, as all of them.
            first: a number.
            second: another one.
            payload: bytes.

        Raises:
            MachineError: the other machine has ended, hangs, or has failed.
        """
        while self._dropped:
            self.channel.send(Kind.DROP, first=self._dropped.popleft())
        self._serial += 1
        self.channel.send(kind, self._serial, first, second, payload)
        while True:
            message = self._next()
            if message.serial == self._serial:
                return message

    def load(self, wanted: Any) -> None:
        """Tell the other machine which models to load; :meth:`wait_until_loaded` waits for it."""
        self.channel.describe(Kind.LOAD, wanted)

    def wait_until_loaded(self, progress: Progress | None = None) -> dict[Role, float]:
        """Return, for each role, from which length on the cache can forget no token.

        Args:
            progress: called with a label, the bytes done and the total bytes.

        Raises:
            MachineError: the other machine has ended, hangs, or has failed.
        """
        described = self.wait_for(Kind.READY, progress).described
        lengths: dict[Role, float] = {role: float(n) for role, n in described.items()}
        self._roles = list(lengths)
        return lengths

    def wait_for(self, kind: Kind, progress: Progress | None = None) -> Frame:
        """Return the message of a kind; progress may come before it.

        Args:
            kind: the kind.
            progress: called with a label, the bytes done and the total bytes.

        Raises:
            MachineError: the other machine has ended, hangs, or has failed.
        """
        while (message := self._next()).kind is not kind:
            if progress and message.kind is Kind.PROGRESS:
                label, done, total = message.described
                progress(f"{self.name}: {label}", int(done), int(total))
        return message

    def _next(self) -> Frame:
        """Return the next message, as long as bytes come."""
        asked = time.monotonic()
        while True:
            left = max(asked, self.channel.moved) + self.channel.patience_s - time.monotonic()
            try:
                message = self._come.get(timeout=max(0.0, left))
            except Empty:
                if left > 0:
                    continue
                raise self.channel.hangs() from None
            if isinstance(message, MachineError):
                self._come.put(message)  # for whoever asks again
                raise message
            if message.kind is Kind.ERROR:
                raise MachineError(f"{self.name}: {message.text}")
            return message

    def open(self, role: Role, kv_bits: int | None, prefill_step_size: int) -> int:
        """Open a context of a model there; return its number."""
        self._contexts += 1
        options = np.array([kv_bits or 0, prefill_step_size], np.int32).tobytes()
        self.channel.send(Kind.OPEN, 0, self._contexts, self._roles.index(role), options)
        return self._contexts

    def drop(self, context: int) -> None:
        """Close a context, before the next request."""
        self._dropped.append(context)

    def read(self, context: int, keep: int, ids: Sequence[int], rows: int) -> tuple[mx.array, int]:
        """Let a context read; one exchange.

        Args:
            context: its number.
            keep: how many of its tokens it keeps.
            ids: what it reads after them.
            rows: how many rows of logits are wanted; 0 reads a step of a prefill.

        Returns:
            Logits ``[rows, V']`` after the last ``rows`` tokens, bit by bit as they were computed,
            and how many tokens the context has read twice so far.
        """
        reply = self.ask(Kind.READ, context, rows, _tokens(keep, ids))
        if reply.kind is not Kind.LOGITS or reply.second >= len(DTYPES):
            raise MachineError(f"{self.name} answered what was not asked")
        numbers = mx.array(np.frombuffer(reply.payload, np.uint8)).view(DTYPES[reply.second])
        return numbers.reshape(rows, numbers.size // max(1, rows)), reply.first

    def expect(self, context: int, keep: int, ids: Sequence[int], rows: int) -> None:
        """Say which :meth:`read`, of the same arguments, may come next; wait for nothing."""
        self.channel.send(Kind.EXPECT, 0, context, rows, _tokens(keep, ids))

    def fingerprint(self, role: Role) -> str:
        """Return the fingerprint of a model there."""
        return self.ask(Kind.FINGERPRINT, self._roles.index(role)).text


def _tokens(keep: int, ids: Sequence[int]) -> bytes:
    return np.array([keep, *ids], np.int32).tobytes()
