"""Progress over requests: the status line on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys

from ..terminal.output import counted, say
from ..terminal.status import STATUS

_LINES = 10  # of progress, where there is no status line


class Requests:
    """Counts requests that are done.

    Args:
        what: what is done with them.
        total: how many there are.
        quiet: print nothing.
    """

    def __init__(self, what: str, total: int, quiet: bool) -> None:
        self._what, self._total, self._quiet = what, total, quiet
        self._every = -(-total // _LINES)

    def __call__(self, done: int) -> None:
        """Show that so many are done."""
        STATUS.show(self._what, done, self._total, _requests)
        shown = sys.stderr.isatty() and done < self._total  # the status line counts there
        if not shown and (done % self._every == 0 or done == self._total):
            say(f"{self._what}: {done} of {counted(self._total, 'request')}", self._quiet)


def _requests(count: float) -> str:
    return f"{count:,.0f} requests"
