"""Types of the callbacks that report the progress of long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # label, units done, total units
Advance = Callable[[int, int], None]  # of one task: units done, total units
