"""A conversation with a pair: messages, answers, and the steps of the last answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import click

from ..session import Session
from ..terminal.answer_view import View, make_shown
from ..terminal.interrupts import interruptible, without_echo
from ..terminal.output import counted, say
from . import conversation_files
from .conversation_files import Message
from .loops import is_looping

if TYPE_CHECKING:
    from blendin_mlx.answer_statistics import Statistics
    from blendin_mlx.blend.method import Method
    from blendin_mlx.decoding.answer_stream import Piece
    from blendin_mlx.inspection import Position

    from ..options.settings import Settings

LOOPS = (
    "the answer repeated itself and was ended; /undo forgets it, and /set temp 0.7 or "
    "/set repetition-penalty 1.1 before /retry may help"
)
LONGEST_NAMED = 60  # characters of a message that is named


@dataclass
class Answered:
    """The last answer, with the settings and method that made it; both may change later."""

    asked: list[Message]
    settings: Settings
    method: Method
    steps: list[Piece]
    statistics: Statistics


class Conversation:
    """A conversation with two loaded models.

    Args:
        session: the models and the settings.
        view: how answers are shown.
        autosave: the folder where the conversation is saved after each turn; None saves nothing.
        ends_loops: whether to end an answer that repeats itself.

    Attributes:
        interrupted: Ctrl-C ended the last answer.
        saved: files that the user saved this conversation to or loaded it from.
        messages: of the user and the assistant, in turns.
        last: the last answer, None if it was taken back or came from a file.
        turns: the statistics of what was written for each answer, without tokens that /alt kept.
    """

    def __init__(
        self,
        session: Session,
        view: View,
        autosave: Path | None = None,
        ends_loops: bool = False,
    ) -> None:
        self.session = session
        self.view = view
        self.interrupted = False
        self.saved: set[Path] = set()
        self.messages: list[Message] = []
        self.last: Answered | None = None
        self.turns: list[Statistics] = []
        self._ends_loops = ends_loops
        self._folder = autosave
        self._file: Path | None = None

    @property
    def steps(self) -> list[Piece]:
        """The tokens of the last answer.

        Raises:
            click.UsageError: there is none.
        """
        if self.last is None:
            raise click.UsageError("there is no answer to look into yet; /retry writes one again")
        return self.last.steps

    def ask(self, text: str, instead: bool = False) -> None:
        """Send a message, and show the answer.

        An interrupted answer is kept; if it has no token yet, the turn is dropped.

        Args:
            text: the message.
            instead: whether it replaces the last message.
        """
        before = self.messages[:-2] if instead else self.messages
        self._answer([*before, {"role": "user", "content": text}])

    def answer_again(self, begun: Sequence[int]) -> None:
        """Answer the last message once more, with this beginning (ids of the base)."""
        self._answer(self.messages[:-1], self._kept_pieces(begun))

    def last_message(self) -> str:
        """Return the user's last message.

        Raises:
            click.UsageError: there is none yet.
        """
        if not self.messages:
            raise click.UsageError("nothing was said yet")
        return self.messages[-2]["content"]

    def look_at(self, index: int) -> Position:
        """Return the candidates at a token of the last answer, under the settings that made it."""
        from blendin_mlx.inspection import look_at

        steps, last = self.steps, self.last
        assert last is not None
        try:
            return look_at(
                self.session.pair,
                self.session.prompt(last.asked, last.settings),
                [piece.step.id for piece in steps[:index]],
                last.method,
                projection=last.settings.projection,
            )
        except KeyboardInterrupt:
            raise click.UsageError("stopped") from None

    def _answer(self, asked: list[Message], begun: Sequence[Piece] = ()) -> None:
        """Show the answer; if it fails, leave the conversation unchanged."""
        shown = make_shown(self.view)
        steps = list(begun)
        try:
            shown.begin(begun)
            with interruptible() as interrupt, without_echo():
                watch = _Watch(interrupt, self._ends_loops)
                ids = [piece.step.id for piece in begun]
                for response in self.session.answer(asked, watch, begun=ids):
                    shown.show(response, self.session.opened)
                    steps += response.pieces
                    watch.read(response.text)
        finally:
            shown.end()
        self.interrupted = interrupt.pressed
        if interrupt.pressed and not steps:
            say("stopped before the answer began; the message was dropped")
            return
        whole = response.statistics.after([piece.step for piece in begun])
        shown.close(whole, "ended in a loop" if watch.looping else None)
        if watch.looping:
            say(LOOPS)
        text = "".join(piece.text for piece in begun) + response.statistics.text
        self.last = Answered(asked, self.session.settings, self.session.method, steps, whole)
        self.turns.append(response.statistics)
        self.messages = [*asked, {"role": "assistant", "content": text}]
        self._keep()

    def _kept_pieces(self, begun: Sequence[int]) -> list[Piece]:
        """Return the steps of the last answer that a beginning keeps; its last token is new."""
        from blendin_mlx.decoding.answer_stream import Piece

        *kept, last = self.steps[: len(begun)]
        before = "".join(piece.text for piece in kept)
        whole = self.session.pair.base.vocabulary.bytes_of(begun).decode(errors="ignore")
        return [*kept, Piece(replace(last.step, id=begun[-1], is_stop=False), whole[len(before) :])]

    def take_back(self) -> str:
        """Forget the last message and its answer; return a line that names the turn."""
        message = shorten(self.last_message(), LONGEST_NAMED, placeholder=" …")
        number = len(self.messages) // 2
        self.messages, self.last = self.messages[:-2], None
        self._keep()
        return f"turn {number} taken back: {message}"

    def clear(self) -> None:
        """Begin another conversation; the file of this one stays."""
        self.messages, self.last, self._file, self.saved = [], None, None, set()

    def _keep(self) -> None:
        """Save the conversation for ``--resume``; say so once if that fails."""
        if self._folder is None:
            return
        self._file = self._file or conversation_files.new_file(self._folder)
        try:
            self.write(self._file, make_folder=True)
        except click.UsageError as error:
            self._folder = None
            say(f"{error.format_message()}; this conversation is not kept for --resume")

    def write(self, file: Path, make_folder: bool = False) -> None:
        """Save the conversation to a file.

        Args:
            file: the file.
            make_folder: whether to make its folder if there is none.

        Raises:
            click.UsageError: it cannot be written.
        """
        pair = self.session.pair
        models = {"base": pair.base.name, "aligned": pair.guide_name}
        system = self.session.settings.system
        conversation_files.write(file, self.messages, system, models, make_folder)

    def read(self, file: Path, keep_system: bool = False) -> None:
        """Continue a saved conversation; one that the chat saved itself is saved there again.

        Args:
            file: the file.
            keep_system: whether to keep the present system prompt.

        Raises:
            click.UsageError: the file is missing, or is not a conversation of this version.
        """
        kept = conversation_files.read(file)
        self.messages, self.last = list(kept.messages), None
        self._file = file if file.parent == self._folder else None
        self.saved = {file}
        if not keep_system:
            self.session.configure(replace(self.session.settings, system=kept.system))
        say(f"{counted(len(kept.messages) // 2, 'turn')} from {file}", self.view.quiet)

    def figures(self) -> dict[str, Any]:
        """Return sums over all answers: answers, tokens, seconds, interventions."""
        return {
            "answers": len(self.turns),
            "tokens": sum(turn.completion_tokens for turn in self.turns),
            "seconds": sum(turn.decode_s for turn in self.turns),
            "interventions": sum(turn.interventions for turn in self.turns),
        }


class _Watch:
    """A callable that is true when an answer should end: on Ctrl-C, or if it loops."""

    def __init__(self, interrupt: Callable[[], bool], ends_loops: bool) -> None:
        self.looping = False
        self._interrupt = interrupt
        self._ends_loops = ends_loops
        self._text = ""

    def __call__(self) -> bool:
        return self._interrupt() or self.looping

    def read(self, text: str) -> None:
        """Check the next part of the answer for a loop."""
        self._text += text
        self.looping = self._ends_loops and is_looping(self._text)
