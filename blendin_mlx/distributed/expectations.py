"""Passes that rank 0 may ask for next, run before it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .channel import Frame

# A pass ahead gains up to one pass of the base if it is asked for. If it lasts n of them, a later
# question waits for it up to n - 2: from three on that is as much, beyond it is more.
MOST_OVERTAKING = 3
_STRIKES = 3
PATIENCE = 64  # expectations until slow passes are tried again; doubled each time


class Rows(NamedTuple):
    """Rows of logits: the type of their numbers, by its place in ``DTYPES``, and their bytes."""

    dtype: int = 0
    numbers: bytes = b""


class Expectations:
    """What may be asked of each context next, and what came of it.

    It rests where passes ahead are too slow: where, three times, as many expectations came during
    one as make it a loss, and none was done in time in between.

    Args:
        run: runs the pass that a message describes.
        undo: undoes the last pass of a context.
    """

    def __init__(self, run: Callable[[Frame], Rows], undo: Callable[[int], None]) -> None:
        self._run = run
        self._undo = undo
        self._waiting: dict[int, Frame] = {}  # by context
        self._done: dict[int, tuple[Frame, Rows]] = {}
        self._last = 0  # the context that ran ahead last
        self._overtaking = 0  # how many expectations of it have come since
        self._strikes = 0
        self._rest = 0  # how many expectations are left out
        self._patience = PATIENCE

    @property
    def wait(self) -> bool:
        """True if there is a pass to run."""
        return bool(self._waiting)

    def add(self, message: Frame) -> None:
        """Expect a pass, instead of another one that is expected of the same context."""
        if message.first == self._last:
            self._overtaking += 1
            self._strikes += self._overtaking == MOST_OVERTAKING
        if self._strikes == _STRIKES:
            self._strikes, self._rest, self._patience = 0, self._patience, 2 * self._patience
            self._waiting.clear()
        if self._rest:
            self._rest -= 1
        else:
            self._waiting[message.first] = message

    def run_one(self) -> None:
        """Run one of the expected passes; what ran ahead in its context before is undone."""
        number, message = self._waiting.popitem()
        if number in self._done:
            self._undo(number)
        self._last, self._overtaking = number, 0
        self._done[number] = message, self._run(message)

    def was_in_time(self) -> None:
        """Note that nothing came while the last pass was run."""
        self._strikes, self._patience = 0, PATIENCE

    def answer(self, message: Frame) -> Rows:
        """Return the rows that are asked for: of a pass that ran ahead, or of one run now."""
        self._waiting.pop(message.first, None)
        if (done := self._done.pop(message.first, None)) is not None:
            expected, rows = done
            if _what(expected) == _what(message):
                return rows
            self._undo(message.first)
        return self._run(message)

    def forget(self, number: int) -> None:
        """Forget a context that is closed."""
        self._waiting.pop(number, None)
        self._done.pop(number, None)


def _what(message: Frame) -> tuple[int, bytes | bytearray]:
    """Return what a context is to read, and how many rows are wanted."""
    return message.second, message.payload
