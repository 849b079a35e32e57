"""Exit codes of the ``blendin`` command. 0 is done."""

from __future__ import annotations

FAILURE = 1
USAGE = 2
MODEL = 3
PAIR = 4
MEMORY = 5
INTERRUPTED = 130
