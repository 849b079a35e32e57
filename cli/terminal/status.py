"""The status line on a terminal: the operation in progress, until there is output."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from .layout import columns, in_bytes
from .safe_text import harmless

TICK_S = 0.5  # how often the line is drawn again
PATIENCE_S = 2.0  # from then on it shows the elapsed time
BAR = 16  # cells


def is_plain() -> bool:
    """Return whether neither colours nor animation are wanted."""
    return "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"


def in_tokens(count: float) -> str:
    """Return a number of tokens."""
    return f"{count:,.0f} tokens"


@dataclass(frozen=True)
class Work:
    """An operation in progress.

    Attributes:
        what: a few words, such as ``loading gemma-3-270m``.
        began: its start, in seconds of a monotonic clock.
        done: the amount done, in the unit that ``amount`` writes; 0 if unknown.
        total: the whole amount, in the same unit; 0 if unknown.
        amount: writes an amount.
    """

    what: str
    began: float
    done: float = 0
    total: float = 0
    amount: Callable[[float], str] = in_bytes

    def line(self, now: float, columns: int) -> str:
        """Return the status line, shorter than ``columns`` characters.

        Where it is too narrow for all, the bar is left out first, then the amounts, then the time.
        """
        waited, width = now - self.began, max(0, columns - 1)
        if not self.total:
            done = [self.amount(self.done)] if self.done else []
            taken = [in_time(waited)] if waited >= PATIENCE_S else []
            return _fitting([[self.what, *done, *taken], [self.what, *taken], [self.what]], width)
        share = min(self.done / self.total, 1)
        full = round(share * BAR)
        bare = f"{self.what}  {share:.0%}"
        barred = f"{self.what}  {'█' * full}{'░' * (BAR - full)} {share:.0%}"
        left = []
        if waited >= PATIENCE_S and 0 < share < 1:
            left = [f"{in_time(waited / share - waited)} left"]
        amounts = self._amounts()
        shown = [[barred, amounts, *left], [bare, amounts, *left], [bare, *left], [bare]]
        return _fitting(shown, width)

    def _amounts(self) -> str:
        done, total = self.amount(self.done), self.amount(self.total)
        same = done.split()[-1] == total.split()[-1]
        return f"{done.split()[0] if same else done} of {total}"


def _fitting(choices: Sequence[Sequence[str]], width: int) -> str:
    """Return the first line that fits; if there is none, what fits of the last one."""
    lines = [" · ".join(parts) for parts in choices]
    return next(
        (line for line in lines if len(line) <= width), f"{lines[-1][: width - 1]}…"[:width]
    )


def in_time(seconds: float) -> str:
    """Return seconds as ``7 s`` or ``2 min``."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class StatusLine:
    """A line on stderr that is redrawn in place and erased at the end.

    It is drawn on a terminal only, and not if ``silent`` is set (``--quiet``).

    Attributes:
        silent: draw nothing.
        held: draw nothing for now: a line of an answer is open, which it would erase.
    """

    def __init__(self) -> None:
        self.silent = False
        self.held = False
        self._work: Work | None = None
        self._drawn = False
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def show(
        self,
        what: str,
        done: float = 0,
        total: float = 0,
        amount: Callable[[float], str] = in_bytes,
    ) -> None:
        """Show an operation and its progress from now on.

        Args:
            what: see :class:`Work`.
            done: see :class:`Work`.
            total: see :class:`Work`.
            amount: see :class:`Work`.
        """
        if self.silent or self.held or is_plain() or not sys.stderr.isatty():
            return
        with self._lock:
            before, now = self._work, time.monotonic()
            goes_on = before is not None and before.what == what
            began = before.began if before and goes_on else now
            self._work = Work(what, began, done, total, amount)
            if not goes_on:
                self._draw()
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, daemon=True)
                self._thread.start()

    def erase(self) -> None:
        """Erase the line, so that another may be written; the next tick draws it again."""
        with self._lock:
            if self._drawn:
                self._drawn = False
                self._write("\r\x1b[K")

    def clear(self) -> None:
        """Erase the line for good: the operation has ended."""
        with self._lock:
            self._work = None
            self.erase()

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_S)
            with self._lock:
                if self._work is None:
                    self._thread = None
                    return
                self._draw()

    def _draw(self) -> None:
        if self._work is None:
            return
        line = harmless(self._work.line(time.monotonic(), columns()))
        self._drawn = True
        self._write(f"\r{click.style(line, dim=True)}\x1b[K")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):  # the terminal is gone, or closed
            self._work = None


STATUS = StatusLine()  # one per process: there is one terminal


def show_reading(done: int = 0, total: int = 0) -> None:
    """Show that the prompt is being read, and how many of its tokens were."""
    if done and done == total:
        STATUS.show("waiting for the first token")
    else:
        STATUS.show("reading the prompt", done, total, in_tokens)
