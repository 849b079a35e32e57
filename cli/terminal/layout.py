"""Text laid out for the width of a terminal: nothing is broken in mid-word."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import IO, Any

WIDEST = 100  # columns that help and tables use at most
ANYWHERE = 80  # columns where there is no terminal
SIDE_BY_SIDE = 28  # columns that a description needs to stand beside its name


def columns(stream: IO[Any] | None = None) -> int:
    """Return how wide the terminal of a stream is, stderr by default."""
    try:
        return os.get_terminal_size((stream or sys.stderr).fileno()).columns or ANYWHERE
    except (OSError, ValueError):
        return ANYWHERE


def in_bytes(count: float) -> str:
    """Return a number of bytes in MB or GB, as every command writes sizes."""
    return f"{count / 1e9:.2f} GB" if count >= 999.5e6 else f"{count / 1e6:.0f} MB"


def wrapped(text: str, width: int) -> str:
    """Return text whose lines are broken between words where they are too wide; the rest stays.

    Example:
        >>> wrapped("  one two three", 10)
        '  one two\\n    three'
    """
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        max(width, len(indent) + 3),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def two_columns(rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a list of names and what is said of them.

    What is said stands beside the name, or below it where the terminal is narrow.
    """
    rows = list(rows)
    left = max((len(name) for name, _ in rows), default=0) + 2
    if width - left < SIDE_BY_SIDE:
        return [line for name, said in rows for line in (name, *_filled(said, "    ", width))]
    lines = []
    for name, said in rows:
        first, *more = _filled(said, " " * left, width) or [""]
        lines += [f"{name:<{left}}{first[left:]}".rstrip(), *more]
    return lines


def _filled(text: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(indent) + 1),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def fitted(text: str, cells: int) -> str:
    """Return text in exactly so many cells of a terminal: cut, or filled with spaces."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > cells:
        text = f"{set_cell_size(text, max(cells - 1, 0))}…"
    return set_cell_size(text, cells)
