"""Thinking in a streamed answer: shown like the rest, dimmed, or hidden."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .output import Output, say
from .status import is_plain

if TYPE_CHECKING:
    from blendin_mlx.chat_template.reasoning import ReasoningSplitter

THINK = ("show", "dim", "hide")


class ThinkingView:
    """A writer of the text of one answer.

    Args:
        output: where it goes. In a pipe, and without colours, nothing is dimmed.
        think: one of :data:`THINK`.
        quiet: do not say that thinking is hidden.
    """

    def __init__(self, output: Output, think: str, quiet: bool) -> None:
        self._output = output
        self._terminal = sys.stdout.isatty()
        self._hides = think == "hide"
        self._dims = think == "dim" and self._terminal and not is_plain()
        self._quiet = quiet or not self._terminal
        self._splitter: ReasoningSplitter | None = None
        self._begun = ""
        self._after_hidden = False
        self._written = False

    def begin(self, text: str) -> None:
        """Keep the beginning of the answer until the rest comes."""
        self._begun = text

    def write(self, text: str, opened: bool) -> None:
        """Write the next part of the answer.

        Args:
            text: the next part.
            opened: whether the prompt has opened a block of thinking already.
        """
        from blendin_mlx.chat_template.reasoning import ReasoningSplitter

        text, self._begun = self._begun + text, ""
        if not (self._hides or self._dims):
            self._output.write(text)
            return
        self._splitter = self._splitter or ReasoningSplitter(opened)
        for part, thinking in self._splitter.feed(text):
            self._write_part(part, thinking)

    def end(self) -> None:
        """Write the text that was withheld."""
        if self._splitter is not None:
            for part, thinking in self._splitter.end():
                self._write_part(part, thinking)

    def _write_part(self, text: str, thinking: bool) -> None:
        if thinking and self._hides:
            if not (self._written or self._after_hidden):
                say("thinking …", self._quiet)
            self._after_hidden = True
        elif thinking:
            self._output.write_styled(click.style(self._output.shown(text), dim=True), text)
        else:
            text = text.lstrip() if self._after_hidden else text
            self._output.write(text)
            self._after_hidden = self._after_hidden and not text
            self._written = self._written or bool(text)
