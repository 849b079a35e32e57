"""Output for people: text made harmless, in lines that fit the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import click

from .layout import WIDEST, columns, wrapped
from .safe_text import SafeText, harmless
from .status import STATUS, is_plain

# A lone surrogate has no bytes: it is written \\udXXX, which JSON reads as such.
UNWRITABLE = "backslashreplace"
NARROWEST = 24  # columns that help needs
WIDE_HELP = 70  # columns from which options and their descriptions are side by side


class HarmlessHelp(click.HelpFormatter):
    """Help as wide as the terminal; its defaults, which may come from a file, are harmless."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int = 0):
        width = width or max(min(columns(sys.stdout), WIDEST), NARROWEST)
        super().__init__(indent_increment, width, max_width or width)

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write options and their descriptions, side by side if there is room.

        Args:
            rows: options and descriptions.
            col_max: see click.
            col_spacing: see click.
        """
        if self.width < WIDE_HELP:
            col_max = self.width // 5
        fits = [(n.replace("|", "| ") if len(n) + 2 > self.width else n, s) for n, s in rows]
        super().write_dl(fits, col_max, col_spacing)

    def getvalue(self) -> str:
        """Return the help so far; lists of values are broken after a bar, without a space."""
        text = wrapped(harmless(super().getvalue()), self.width)
        return re.sub(r"(?<=\S)\| (?=\S)", "|", text)


class Context(click.Context):
    """The context of every command; what the command finds wrong with its input names it."""

    formatter_class = HarmlessHelp

    def invoke(self, callback: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return what the command returns; a ValueError is raised as an error of its use."""
        try:
            return super().invoke(callback, *args, **kwargs)
        except ValueError as error:
            raise click.UsageError(str(error), self) from error


class Output:
    """The answer on stdout: unchanged bytes in a pipe, made harmless on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._line_open = False
        self._safe = SafeText()

    def shown(self, text: str) -> str:
        """Return the next part of a text made harmless for stdout; it may then be styled."""
        return self._safe.feed(text) if self._terminal else text

    def write(self, text: str) -> None:
        """Write and flush."""
        if text:
            self.write_styled(self.shown(text), text)

    def write_styled(self, styled: str, text: str | None = None) -> None:
        """Write text that is already harmless and styled.

        Args:
            styled: what to write.
            text: the same without styles, if it differs.
        """
        if styled:
            STATUS.clear()
            sys.stdout.buffer.write(styled.encode(errors=UNWRITABLE))
            sys.stdout.buffer.flush()
            self._line_open = not (text or styled).endswith("\n")
            STATUS.held = self._terminal and self._line_open

    def end(self) -> None:
        """End the last line."""
        if self._line_open:
            self.write("\n")


def tell(text: str) -> None:
    """Print a result on stdout with a line end: harmless on a terminal, unchanged in a pipe."""
    output = Output()
    fits = wrapped(text, columns(sys.stdout)) if sys.stdout.isatty() else text
    output.write(f"{fits}\n")


def complain(line: str) -> None:
    """Print an error on stderr, made harmless: one line, which a terminal gets as wide as it is."""
    STATUS.clear()
    click.echo(_fitting(harmless(line)), err=True)


def say(line: str, quiet: bool = False) -> None:
    """Print a line for a person on stderr, made harmless."""
    if not quiet:
        shown = _fitting(harmless(line))
        say_styled(shown if is_plain() else click.style(shown, dim=True))


def say_styled(line: str) -> None:
    """Print on stderr a line that is already harmless and styled."""
    STATUS.erase()
    click.echo(line, err=True)


def _fitting(line: str) -> str:
    return wrapped(line, columns()) if sys.stderr.isatty() else line


def counted(number: int, what: str) -> str:
    """Return a number of things: ``1 token``, ``2 tokens``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
