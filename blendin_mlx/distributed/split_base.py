"""A base that is split over all machines: every request goes to all, and each reads with its part.

Within a pass MLX waits for the other machines, and neither a signal nor a time-out ends that. So a
thread of its own reads, and the main thread can notice that a machine is lost, and leave.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from types import FrameType
from typing import NoReturn

from ..backend.mlx import mx
from ..errors import MachineError
from ..model import LanguageModel
from ..roles import Role
from .channel import Channel, Connection, Frame, Kind
from .follower import Contexts

_LATER = 2  # times the patience of rank 0, which so speaks first if it can


class Part:
    """This machine's part of the base, which does one request after the other on a thread.

    Args:
        work: does a request.
        failed: told why one could not be done; no other is done after that.
    """

    def __init__(self, work: Callable[[Frame], None], failed: Callable[[Exception], None]) -> None:
        self._work = work
        self._failed = failed
        self._requests: SimpleQueue[Frame] = SimpleQueue()
        self._given = 0
        self.done = 0
        self._thread = Thread(target=self._run, name="part", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Return whether a request is not done yet."""
        return self.done < self._given

    def give(self, request: Frame) -> None:
        """Have a request done after those that were given before."""
        self._given += 1
        self._requests.put(request)

    def _run(self) -> None:
        while True:
            request = self._requests.get()
            try:
                self._work(request)
            except Exception as error:
                # Which machine was lost is known from its channel, and not from the ring.
                if not str(error).startswith("[ring]"):
                    self._failed(error)
                return
            self.done += 1


class Parts(Connection):
    """All parts as one machine: requests go to the others, then to rank 0's own, which answers.

    Args:
        channels: the connections to the other ranks.
        patience_s: how long may pass without progress.

    Attributes:
        size: how many parts there are.
    """

    def __init__(self, channels: Sequence[Channel], patience_s: float) -> None:
        several = f"one of ranks 1 to {len(channels)}"
        super().__init__(channels[0].peer if len(channels) == 1 else several, patience_s)
        self.size = len(channels) + 1
        self._channels = channels
        self._come: SimpleQueue[Frame | MachineError] = SimpleQueue()
        self._said: Counter[Kind] = Counter()
        self._sending = Lock()
        self._part: Part | None = None
        for channel in channels:
            Thread(target=self._listen, args=(channel,), name="messages", daemon=True).start()

    def begin(self, model: LanguageModel) -> None:
        """Read with this part of the base from now on; the others have loaded theirs."""
        own = _Own({"base": model}, self._come)

        def work(request: Frame) -> None:
            self._tell(request)
            own.answer(request)

        self._part = Part(work, self._fail)

    def send(
        self,
        kind: Kind,
        serial: int = 0,
        first: int = 0,
        second: int = 0,
        payload: bytes | memoryview = b"",
    ) -> None:
        """Send a message to all parts, see :class:`.channel.Connection`.

        A request is only put down here, so that an interrupt cannot come between two of them.
        """
        message = Frame(kind, serial, first, second, bytes(payload))
        if self._part is None or kind is Kind.BYE:
            self._tell(message)
        else:
            self._part.give(message)

    def receive(self, waits: bool = True) -> Frame:
        """Return the next message, see :class:`.channel.Connection`.

        That the parts are checked or ready is one message, once all have said it.
        """
        while True:
            message = self._come.get()
            if isinstance(message, MachineError):
                raise message
            self._said[message.kind] += 1
            for_all = message.kind in (Kind.CHECKED, Kind.READY)
            if not for_all or self._said[message.kind] == len(self._channels):
                return message

    def _tell(self, message: Frame) -> None:
        """Send a message to the other ranks."""
        lost = None
        with self._sending:
            for channel in self._channels:
                try:
                    channel.send(
                        *(message.kind, message.serial, message.first, message.second),
                        payload=memoryview(message.payload),
                    )
                except MachineError as error:
                    lost = error
        if lost is not None:
            raise lost

    def _listen(self, channel: Channel) -> None:
        try:
            while (message := channel.receive()).kind is not Kind.ERROR:
                self.moved = channel.moved
                self._come.put(message)
            raise MachineError(f"{channel.peer}: {message.text}")
        except MachineError as error:
            self._come.put(error)

    def _fail(self, error: Exception) -> None:
        failed = MachineError(f"rank 0: unexpected {type(error).__name__}: {error}")
        self._come.put(error if isinstance(error, MachineError) else failed)


class _Own(Contexts):
    """The contexts of rank 0's own part, whose answers come as if from another machine."""

    def __init__(
        self, models: Mapping[Role, LanguageModel], come: SimpleQueue[Frame | MachineError]
    ) -> None:
        super().__init__(models)
        self._come = come

    def reply(
        self, kind: Kind, serial: int, first: int = 0, second: int = 0, payload: bytes = b""
    ) -> None:
        """Put an answer to what has come."""
        self._come.put(Frame(kind, serial, first, second, payload))


def serve_part(channel: Channel, model: LanguageModel, failed: Callable[[Exception], None]) -> int:
    """Read with this part of the base what rank 0 reads, until it leaves; return its exit code.

    Args:
        channel: the connection to rank 0.
        model: the base with this part of its network.
        failed: told why a request could not be done.

    Raises:
        MachineError: rank 0 ended without a word, or a pass does not end.
    """
    own = Contexts({"base": model})
    channel.describe(Kind.READY, own.lengths())
    part = Part(own.answer, failed)
    channel.patience_s *= _LATER
    while True:
        done = part.done
        if channel.comes(channel.patience_s if part.busy else None):
            if (message := channel.receive()).kind is Kind.BYE:
                return message.first
            part.give(message)
        elif part.done == done:
            raise channel.hangs()


def join_ring(connection: Connection) -> mx.distributed.Group:
    """Connect MLX's ring, as all ranks do at this moment; return the group of all.

    MLX waits in a system call, and lets no other thread run meanwhile. A signal ends that.

    Args:
        connection: that to the others.

    Raises:
        MachineError: the ring cannot be connected, or not in time.
    """

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise connection.hangs()

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, connection.patience_s)
    try:
        return mx.distributed.init(strict=True, backend="ring")
    except RuntimeError as error:
        raise MachineError(f"MLX's ring cannot be connected: {error}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
