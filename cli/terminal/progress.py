"""Progress of what takes long: bars on a terminal, else a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .output import harmless, is_plain, say

PATIENCE_S = 2.0


@contextmanager
def progress(quiet: bool = False) -> Iterator[Any]:
    """A callback ``(what, done, total)``: bars on a terminal, else a line for what takes long."""
    if quiet:
        yield lambda what, done, total: None
    elif sys.stderr.isatty() and not is_plain():
        with _bars() as report:
            yield report
    else:
        yield _Patient()


class _Patient:
    """Says once what goes on, if it still does after a moment."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._said: set[str] = set()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        waited = now - self._since.setdefault(what, now)
        if waited >= PATIENCE_S and done < total and what not in self._said:
            self._said.add(what)
            say(f"{what}: {total / 1e6:.0f} MB")


@contextmanager
def _bars() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(harmless(what), total=total)
            bars.update(tasks[what], completed=done)

        yield report
