"""Progress of long operations: the status line on a terminal, else a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .layout import in_bytes
from .output import say
from .status import PATIENCE_S, STATUS, is_plain

Report = Callable[[str, int, int], None]  # what is going on, bytes done, bytes in all


@contextmanager
def progress(quiet: bool = False) -> Iterator[Report]:
    """Context manager: yield a callback that shows progress; a terminal is cleared at the end."""
    if quiet:
        yield lambda what, done, total: None
    elif sys.stderr.isatty() and not is_plain():
        try:
            yield STATUS.show
        finally:
            STATUS.clear()
    else:
        yield _Patient()


class _Patient:
    """A callback that prints a line once for an operation that takes longer than a moment."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._said: set[str] = set()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        waited = now - self._since.setdefault(what, now)
        if waited >= PATIENCE_S and done < total and what not in self._said:
            self._said.add(what)
            say(f"{what}: {in_bytes(total)}")
