"""An answer on stdout as it streams: its text, or the blend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from .blend_view import BlendView, Decision, closing_line, decision, wants_marks
from .figures import all_figures, short_figures
from .output import Output, say, say_styled
from .quiet import quiet_option
from .status import STATUS
from .thinking_view import THINK, ThinkingView

if TYPE_CHECKING:
    from blendin_mlx.answer_statistics import Statistics
    from blendin_mlx.decoding.answer_stream import Piece, Response

SHOW = ("text", "blend")


@dataclass(frozen=True)
class View:
    """The way answers are shown.

    Attributes:
        show: one of :data:`SHOW`: the text alone, or the blend.
        marks: whether the blend is shown with marks instead of colours.
        think: how thinking is shown (see :mod:`.thinking_view`).
        verbose: whether all figures follow an answer.
        quiet: whether none do.
    """

    show: str = "text"
    marks: bool = False
    think: str = "dim"
    verbose: bool = False
    quiet: bool = False

    def figures(self, statistics: Statistics, end: str | None = None) -> str:
        """Return the closing line.

        Args:
            statistics: the figures of the answer.
            end: why the answer ended, if not by itself.
        """
        figures = all_figures if self.verbose else short_figures
        return figures(statistics, end)


class Shown:
    """The text of an answer, and the closing line."""

    def __init__(self, view: View) -> None:
        self._output = Output()
        self._how = view
        self._text_view = ThinkingView(self._output, view.think, view.quiet)

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Show the beginning of the answer that the user chose."""
        self._text_view.begin("".join(piece.text for piece in pieces))

    def show(self, response: Response, opened: bool = False) -> None:
        """Show the next part; end the line after the last one.

        Args:
            response: the next part.
            opened: whether the prompt has begun the thinking already.
        """
        self._text_view.write(response.text, opened)
        if response.finish_reason:
            self.end()

    def end(self) -> None:
        """End the last line."""
        STATUS.clear()
        self._text_view.end()
        self._output.end()

    def close(self, statistics: Statistics, end: str | None = None) -> None:
        """Print the figures of the whole answer.

        Args:
            statistics: the figures.
            end: why it ended, if not by itself.
        """
        self.end()
        say(self._how.figures(statistics, end), self._how.quiet)


class ShownBlend(Shown):
    """The blend: text coloured by who decided, or marked if there are no colours."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._view = BlendView(view.marks or wants_marks())
        self._alphas: list[float | None] = []
        self._decided: list[Decision] = []
        self._text = ""
        self._settled = 0

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Show the beginning of the answer, coloured by who decided."""
        self._text += "".join(piece.text for piece in pieces)
        self._write(pieces)

    def show(self, response: Response, opened: bool = False) -> None:
        """Show the tokens that became final, without text that a stop string cut off."""
        self._text += response.text
        self._write(response.pieces)
        if response.finish_reason:
            self.end()

    def _write(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            step, start = piece.step, self._settled
            self._settled += len(piece.text)
            alpha = step.guidance.alpha if step.guidance else None
            wish = None if step.base is None else step.base.id
            who = decision(step.source, alpha, step.id, wish)
            self._alphas.append(alpha)
            self._decided.append(who)
            text = self._text[start : self._settled]
            self._output.write_styled(self._view.piece(who, alpha, text), text)

    def close(self, statistics: Statistics, end: str | None = None) -> None:
        """Print the legend, α over the answer, and the figures."""
        self.end()
        if not self._how.quiet:
            say_styled(self._view.legend())
        say(closing_line(self._alphas, self._decided), self._how.quiet)
        say(self._how.figures(statistics, end), self._how.quiet)


def make_shown(view: View) -> Shown:
    """Return the object that shows one answer."""
    return ShownBlend(view) if view.show == "blend" or view.marks else Shown(view)


def show_options(command: Callable[..., Any]) -> Any:
    """Give a command the options of :class:`View`; it gets them as ``view``, and no ``quiet``."""

    @wraps(command)
    def gathered(
        show: str, marks: bool, think: str, verbose: bool, quiet: bool, **values: Any
    ) -> Any:
        return command(view=View(show, marks, think, verbose, quiet), **values)

    decorated = quiet_option(gathered)
    decorated = click.option(
        "--verbose", "-v", is_flag=True, help="All figures below an answer: rate, α, drafts, end."
    )(decorated)
    decorated = click.option(
        "--think",
        type=click.Choice(THINK),
        default="dim",
        show_default=True,
        help="What becomes of thinking in the text: shown, dimmed on a terminal, or hidden.",
    )(decorated)
    decorated = click.option(
        "--marks", is_flag=True, help="Show the blend with marks in place of colours."
    )(decorated)
    return click.option(
        "--show",
        type=click.Choice(SHOW),
        default="text",
        show_default=True,
        help="The text alone, or coloured by who decided each token, deeper for a larger α.",
    )(decorated)
