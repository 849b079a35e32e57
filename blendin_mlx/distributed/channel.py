"""Messages between two machines, over a TCP socket.

A message is five 32-bit numbers (kind, serial number, two more, bytes that follow), and those
bytes. Numbers are little-endian.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ..errors import MachineError

HEADER = struct.Struct("<5I")
_DESCRIPTION = 2**16  # bytes
_IDS = 2**26
_LOGITS = 2**31


class Kind(IntEnum):
    """What a message says."""

    HELLO = 1  # who a machine is; it is the first message of the one that connects
    LOAD = 2  # which models the other one shall load
    PROGRESS = 3  # how far it is
    READY = 4  # they are loaded
    OPEN = 5  # a new context: its number, the model's role, its options
    READ = 6  # read tokens: number of the context, rows wanted; tokens to keep, then ids
    LOGITS = 7  # what came of it: tokens read twice so far, type of numbers; the rows
    DROP = 8  # a context is no longer used
    FINGERPRINT = 9  # asks for the fingerprint of a model
    TEXT = 10  # the answer
    ERROR = 11  # one line; nothing follows
    BYE = 12  # the exit code; nothing follows
    EXPECT = 13  # a READ, word for word, that may come next; nothing answers it
    CHECKED = 14  # this machine can load its part of the base
    JOIN = 15  # so can all: connect MLX's ring, then load it


_MOST = {
    Kind.READ: _IDS,
    Kind.EXPECT: _IDS,
    Kind.LOGITS: _LOGITS,
}  # bytes that follow; else _DESCRIPTION


@dataclass(frozen=True)
class Frame:
    """A message.

    Attributes:
        kind: what it says.
        serial: the number of the request that it is or answers.
        first, second: numbers that depend on the kind.
        payload: bytes that depend on the kind.
    """

    kind: Kind
    serial: int = 0
    first: int = 0
    second: int = 0
    payload: bytes | bytearray = b""

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode(errors="replace")

    @property
    def described(self) -> Any:
        """The payload as JSON.

        Raises:
            MachineError: it is not.
        """
        try:
            return json.loads(self.payload)
        except ValueError:
            raise MachineError("the other machine sent what is not JSON") from None


class Connection(ABC):
    """What is exchanged with another machine, or with several as with one.

    Attributes:
        peer: the other machine, in words.
        patience_s: how long a message that was begun may stand still.
        moved: when something last came, by ``time.monotonic()``.
    """

    def __init__(self, peer: str, patience_s: float) -> None:
        self.peer = peer
        self.patience_s = patience_s
        self.moved = time.monotonic()

    @abstractmethod
    def send(
        self,
        kind: Kind,
        serial: int = 0,
        first: int = 0,
        second: int = 0,
        payload: bytes | memoryview = b"",
    ) -> None:
        """Send a message.

        Args:
            kind: see :class:`Frame`, as all of them.
            serial: the number of the request.
            first: a number.
            second: another one.
            payload: bytes.

        Raises:
            MachineError: the other machine has ended, or takes nothing.
        """

    def describe(self, kind: Kind, content: Any, serial: int = 0) -> None:
        """Send a message whose payload is JSON."""
        self.send(kind, serial, payload=json.dumps(content).encode())

    @abstractmethod
    def receive(self, waits: bool = True) -> Frame:
        """Return the next message.

        Args:
            waits: wait for it as long as it takes to come; False waits ``patience_s``.

        Raises:
            MachineError: the other machine has ended, hangs, or sends what is not a message.
        """

    def ended(self) -> MachineError:
        """Return the error that the other machine has ended."""
        return MachineError(f"{self.peer} ended, so this one ends too")

    def hangs(self) -> MachineError:
        """Return the error that nothing comes from the other machine."""
        return MachineError(
            f"{self.peer} has made no progress for {self.patience_s:g} seconds, so this one ends"
        )


class Channel(Connection):
    """One end of a connection between two machines.

    Args:
        connection: a connected socket.
        peer: the other machine, in words.
        patience_s: how long a message that was begun may stand still.
    """

    def __init__(self, connection: socket.socket, peer: str, patience_s: float) -> None:
        connection.setblocking(False)
        self._socket = connection
        super().__init__(peer, patience_s)

    def send(
        self,
        kind: Kind,
        serial: int = 0,
        first: int = 0,
        second: int = 0,
        payload: bytes | memoryview = b"",
    ) -> None:
        """Send a message, see :class:`Connection`."""
        header = HEADER.pack(kind, serial, first, second, len(payload))
        rest = memoryview(header + payload)  # a request goes at once: Ctrl-C cannot cut it
        while rest:
            self._wait(select.POLLOUT)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self.ended() from None

    def receive(self, waits: bool = True) -> Frame:
        """Return the next message, see :class:`Connection`."""
        header = self._exactly(HEADER.size, waits)
        number, serial, first, second, size = HEADER.unpack(header)
        if number not in Kind.__members__.values() or size > _MOST.get(Kind(number), _DESCRIPTION):
            raise MachineError(f"{self.peer} does not speak blendin's language")
        return Frame(Kind(number), serial, first, second, self._exactly(size, False))

    def farewell(self) -> int | None:
        """Return the exit code that the other machine left with, None if it just ended."""
        self.patience_s = 0.0
        with suppress(MachineError):
            while (message := self.receive(waits=False)).kind is not Kind.BYE:
                continue
            return message.first
        return None

    def _exactly(self, size: int, waits: bool) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        while left:
            self._wait(select.POLLIN, not waits or len(left) < size)
            try:
                count = self._socket.recv_into(left)
            except BlockingIOError:
                continue
            except OSError:
                count = 0
            if not count:
                raise self.ended()
            left = left[count:]
            self.moved = time.monotonic()
        return data

    def _wait(self, event: int, limited: bool = True) -> None:
        """Wait until the socket can be read or written, for ``patience_s`` if that is limited."""
        if not self._ready(event, self.patience_s if limited else None):
            raise self.hangs()

    def _ready(self, event: int, within_s: float | None) -> bool:
        poll = select.poll()
        try:
            poll.register(self._socket, event)
        except ValueError:  # closed by this end
            raise self.ended() from None
        return bool(poll.poll(None if within_s is None else 1000 * within_s))

    def comes(self, within_s: float | None) -> bool:
        """Return whether something to receive comes within this time; None waits for ever.

        Raises:
            MachineError: this end is closed.
        """
        return self._ready(select.POLLIN, within_s)

    def close(self) -> None:
        """End the connection; whoever waits for a message is told that it has ended."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
