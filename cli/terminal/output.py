"""What a person sees: text made harmless, one line of figures."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from blendin_mlx.answer_statistics import Statistics

# Control characters but tab and line feed, and what reorders or hides text, shown as U+FFFD.
_HARMFUL = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0xAD]
_HARMFUL += [0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810)]
_HARMFUL += [*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070)]
_HARMFUL += [0x3164, 0xFEFF, 0xFFA0, *range(0xFFF0, 0xFFFC), *range(0x1BCA0, 0x1BCA4)]
_HARMFUL += [*range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)]
_HARMLESS = dict.fromkeys(_HARMFUL, "\ufffd")

# Half of a surrogate pair has no bytes: it is written \\udXXX, which JSON reads as such.
UNWRITABLE = "backslashreplace"


def harmless(text: str) -> str:
    """Text that can only be read: each character is judged alone, so any split looks the same."""
    return text.translate(_HARMLESS)


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

    def write(self, text: str) -> None:
        """Write and flush."""
        if text:
            self.write_styled(harmless(text) if self._terminal else text, text)

    def write_styled(self, styled: str, text: str | None = None) -> None:
        """Write what was made harmless and styled already.

        Args:
            text: the same without styles, if it differs.
        """
        if styled:
            sys.stdout.buffer.write(styled.encode(errors=UNWRITABLE))
            sys.stdout.buffer.flush()
            self._line_open = not (text or styled).endswith("\n")

    def end(self) -> None:
        """End the last line."""
        if self._line_open:
            self.write("\n")


def is_plain() -> bool:
    """Whether neither colours nor anything that moves is wanted."""
    return "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"


def tell(text: str) -> None:
    """Print a result on stdout, with a line end: harmless on a terminal, as it is in a pipe."""
    Output().write(f"{text}\n")


def complain(line: str) -> None:
    """Print what went wrong on stderr, made harmless."""
    click.echo(harmless(line), err=True)


def say(line: str, quiet: bool = False) -> None:
    """Print a line for a person on stderr, made harmless."""
    if not quiet:
        shown = harmless(line)
        say_styled(shown if is_plain() else click.style(shown, dim=True))


def say_styled(line: str) -> None:
    """Print on stderr what was made harmless and styled already."""
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
