"""An answer on stdout as it streams: its text, or the blend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from .blend_view import BlendView, closing_line, decision, wants_marks
from .output import Output, figures, say, say_styled
from .thinking_view import THINK, ThinkingView

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Piece, Response

SHOW = ("text", "blend")


class Shown:
    """The text of an answer, and the closing line.

    Args:
        quiet: no closing line.
        think: what becomes of thinking (see :mod:`.thinking_view`).
    """

    def __init__(self, quiet: bool = False, think: str = "show") -> None:
        self._output = Output()
        self._quiet = quiet
        self._text_view = ThinkingView(self._output, think, quiet)

    def begin(self, pieces: Sequence[Piece]) -> None:
        """What the answer begins with by the user's wish."""
        self._text_view.begin("".join(piece.text for piece in pieces))

    def show(self, response: Response, opened: bool = False) -> None:
        """The next part; after the last one whatever is said begins a line.

        Args:
            opened: the prompt has begun the thinking already.
        """
        self._text_view.write(response.text, opened)
        if response.finish_reason:
            self.end()

    def end(self) -> None:
        """End the last line."""
        self._text_view.end()
        self._output.end()

    def close(self, response: Response) -> None:
        """What there is to say about the whole answer."""
        self.end()
        say(figures(response.statistics), self._quiet)


class ShownBlend(Shown):
    """Coloured by who decided, or marked where there are no colours."""

    def __init__(self, quiet: bool = False, marks: bool = False) -> None:
        super().__init__(quiet)
        self._view = BlendView(marks or wants_marks())
        self._alphas: list[float | None] = []
        self._overrides = 0
        self._text = ""
        self._settled = 0

    def begin(self, pieces: Sequence[Piece]) -> None:
        """What the answer begins with, as it was decided; a token chosen by the user too."""
        self._text += "".join(piece.text for piece in pieces)
        self._write(pieces)

    def show(self, response: Response, opened: bool = False) -> None:
        """The settled tokens; a stop string takes what it cut off with it."""
        self._text += response.text
        self._write(response.pieces)
        if response.finish_reason:
            self.end()

    def _write(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            step, start = piece.step, self._settled
            self._settled += len(piece.text)
            alpha = step.guidance.alpha if step.guidance else None
            who = decision(step.source, alpha, step.id, step.base.id)
            self._alphas.append(alpha)
            self._overrides += who == "override"
            text = self._text[start : self._settled]
            self._output.write_styled(self._view.piece(who, alpha, text), text)

    def close(self, response: Response) -> None:
        """The legend, α over the answer, and the figures."""
        self.end()
        if not self._quiet:
            say_styled(self._view.legend())
        say(closing_line(self._alphas, self._overrides), self._quiet)
        say(figures(response.statistics), self._quiet)


def make_shown(show: str, marks: bool, quiet: bool, think: str) -> Shown:
    """The way of showing that the options ask for."""
    return ShownBlend(quiet, marks) if show == "blend" or marks else Shown(quiet, think)


def show_options(command: Any) -> Any:
    """How an answer is shown."""
    command = click.option(
        "--think",
        type=click.Choice(THINK),
        default="dim",
        show_default=True,
        help="What becomes of thinking in the text: shown, dimmed on a terminal, or hidden.",
    )(command)
    command = click.option(
        "--marks", is_flag=True, help="Show the blend with marks in place of colours."
    )(command)
    return click.option(
        "--show",
        type=click.Choice(SHOW),
        default="text",
        show_default=True,
        help="The text alone, or coloured by who decided each token, deeper for a larger α.",
    )(command)
