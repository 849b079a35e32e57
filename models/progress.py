"""How work that takes long reports to whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what is going on, units done, units in all
Advance = Callable[[int, int], None]  # of one task: units done, units in all
