"""What a person sees: text made harmless, one line of figures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .safe_text import SafeText, harmless
from .status import STATUS, is_plain

if TYPE_CHECKING:
    from blendin_mlx.answer_statistics import Statistics

# Half of a surrogate pair has no bytes: it is written \\udXXX, which JSON reads as such.
UNWRITABLE = "backslashreplace"


class HarmlessHelp(click.HelpFormatter):
    """Help whose defaults, which may come from a file, are made harmless."""

    def getvalue(self) -> str:
        """Return the help so far."""
        return harmless(super().getvalue())


class Context(click.Context):
    """What commands run in; every command has this class."""

    formatter_class = HarmlessHelp


class Output:
    """The answer on stdout: bytes as they are in a pipe, made harmless on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._line_open = False
        self._safe = SafeText()

    def shown(self, text: str) -> str:
        """Return the next part of a text as it may be shown here; styles may be added then."""
        return self._safe.feed(text) if self._terminal else text

    def write(self, text: str) -> None:
        """Write and flush."""
        if text:
            self.write_styled(self.shown(text), text)

    def write_styled(self, styled: str, text: str | None = None) -> None:
        """Write what was made harmless and styled already.

        Args:
            text: the same without styles, if it differs.
        """
        if styled:
            STATUS.clear()
            sys.stdout.buffer.write(styled.encode(errors=UNWRITABLE))
            sys.stdout.buffer.flush()
            self._line_open = not (text or styled).endswith("\n")

    def end(self) -> None:
        """End the last line."""
        if self._line_open:
            self.write("\n")


def tell(text: str) -> None:
    """Print a result on stdout, with a line end: harmless on a terminal, as it is in a pipe."""
    Output().write(f"{text}\n")


def complain(line: str) -> None:
    """Print what went wrong on stderr, made harmless."""
    STATUS.clear()
    click.echo(harmless(line), err=True)


def say(line: str, quiet: bool = False) -> None:
    """Print a line for a person on stderr, made harmless."""
    if not quiet:
        shown = harmless(line)
        say_styled(shown if is_plain() else click.style(shown, dim=True))


def say_styled(line: str) -> None:
    """Print on stderr what was made harmless and styled already."""
    STATUS.erase()
    click.echo(line, err=True)


def counted(number: int, what: str) -> str:
    """A number of things: ``1 token``, ``2 tokens``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def figures(statistics: Statistics) -> str:
    """The closing line: tokens, speed, interventions, weight, why it ended."""
    parts = [
        counted(statistics.completion_tokens, "token"),
        f"{statistics.tokens_per_s:.1f} tokens/s",
        f"{counted(statistics.interventions, 'intervention')} ({statistics.intervention_rate:.1%})",
    ]
    if statistics.mean_alpha is not None:
        parts.append(f"mean α {statistics.mean_alpha:.2f}")
    if statistics.drafted:
        parts.append(f"{statistics.accepted} of {statistics.drafted} drafted tokens taken")
    for model, use in (("base", statistics.base), ("guide", statistics.aligned)):
        if use.rereads:  # its cache could not be rewound, or text was split anew
            parts.append(f"{counted(use.rereads, 'token')} read again by the {model}")
    return ", ".join([*parts, f"end: {statistics.finish_reason}"])
