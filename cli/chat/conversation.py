"""A conversation with a pair: what was said, what was answered, and how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..session import Session
from ..terminal.answer_view import make_shown
from ..terminal.interrupts import interruptible
from ..terminal.output import counted, say
from . import conversation_files
from .conversation_files import Message

if TYPE_CHECKING:
    from blendin_mlx.answer_statistics import Statistics
    from blendin_mlx.blend.method import Method
    from blendin_mlx.decoding.answer_stream import Piece
    from blendin_mlx.inspection import Position

    from ..options.settings import Settings


@dataclass
class Answered:
    """The last answer, with what it was made by: both may have been changed since then."""

    asked: list[Message]
    settings: Settings
    method: Method
    steps: list[Piece] = field(default_factory=list)


class Conversation:
    """What was said so far, over two loaded models.

    Args:
        session: the models and the settings.
        quiet: no closing lines.
        autosave: the folder where each turn is kept, None to keep none.
        show, marks: the text alone, or the blend (see :mod:`.answer_view`).
        think: what becomes of thinking in the text.

    Attributes:
        messages: of the user and the assistant, in turns.
        last: the last answer, None where it was taken back or came from a file.
        turns: the figures of all answers.
    """

    def __init__(
        self,
        session: Session,
        quiet: bool = False,
        autosave: Path | None = None,
        show: str = "text",
        marks: bool = False,
        think: str = "dim",
    ) -> None:
        self.session = session
        self.show = show
        self.think = think
        self.messages: list[Message] = []
        self.last: Answered | None = None
        self.turns: list[Statistics] = []
        self._quiet = quiet
        self._folder = autosave
        self._file: Path | None = None
        self._marks = marks

    @property
    def steps(self) -> list[Piece]:
        """The tokens of the last answer.

        Raises:
            click.UsageError: there is none.
        """
        if self.last is None:
            raise click.UsageError("there is no answer yet")
        return self.last.steps

    def ask(self, text: str, instead: bool = False) -> None:
        """Say something, and show what is answered; an interrupted answer is kept as it is.

        Args:
            instead: in place of the last message.
        """
        before = self.messages[:-2] if instead else self.messages
        self._answer([*before, {"role": "user", "content": text}])

    def answer_again(self, begun: Sequence[int]) -> None:
        """Answer the last message once more, with this beginning (ids of the base)."""
        self._answer(self.messages[:-1], self._kept_pieces(begun))

    def last_message(self) -> str:
        """What was said last.

        Raises:
            click.UsageError: nothing was said yet.
        """
        if not self.messages:
            raise click.UsageError("nothing was said yet")
        return self.messages[-2]["content"]

    def look_at(self, index: int) -> Position:
        """What was in question at a token of the last answer, by the settings that held then."""
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
        """Show what is answered; where that fails, the conversation is as it was."""
        session = self.session
        shown = make_shown(self.show, self._marks, self._quiet, self.think)
        answered = Answered(asked, session.settings, session.method, list(begun))
        try:
            shown.begin(begun)
            with interruptible() as interrupt:
                ids = [piece.step.id for piece in begun]
                for response in session.answer(asked, interrupt, begun=ids):
                    shown.show(response, session.opened)
                    answered.steps += response.pieces
        finally:
            shown.end()
        shown.close(response)
        text = "".join(piece.text for piece in begun) + response.statistics.text
        self.last = answered
        self.turns.append(response.statistics)
        self.messages = [*asked, {"role": "assistant", "content": text}]
        self._keep()

    def _kept_pieces(self, begun: Sequence[int]) -> list[Piece]:
        """The steps of the last answer that a beginning takes over; its last token is new."""
        from blendin_mlx.decoding.answer_stream import Piece

        *kept, last = self.steps[: len(begun)]
        before = "".join(piece.text for piece in kept)
        whole = self.session.pair.base.vocabulary.bytes_of(begun).decode(errors="ignore")
        return [*kept, Piece(replace(last.step, id=begun[-1], is_stop=False), whole[len(before) :])]

    def take_back(self) -> str:
        """Forget the last message and its answer; the message."""
        message = self.last_message()
        self.messages, self.last = self.messages[:-2], None
        self._keep()
        return message

    def clear(self) -> None:
        """Begin another conversation; what was kept of this one stays."""
        self.messages, self.last, self._file = [], None, None

    def _keep(self) -> None:
        """Keep the conversation for ``--resume``; said once where that cannot be done."""
        if self._folder is None:
            return
        self._file = self._file or conversation_files.new_file(self._folder)
        try:
            self.write(self._file)
        except click.UsageError as error:
            self._folder = None
            say(f"{error.format_message()}; this conversation is not kept for --resume")

    def write(self, file: Path) -> None:
        """Keep the conversation in a file.

        Raises:
            click.UsageError: it cannot be written.
        """
        pair = self.session.pair
        models = {"base": pair.base.name, "aligned": pair.aligned.name}
        conversation_files.write(file, self.messages, self.session.settings.system, models)

    def read(self, file: Path, keep_system: bool = False) -> None:
        """Go on with a conversation that was kept; one of the chat's own is kept there again.

        Args:
            keep_system: leave the system prompt as it is.

        Raises:
            click.UsageError: the file is missing, or holds no conversation of this version.
        """
        kept = conversation_files.read(file)
        self.messages, self.last = list(kept.messages), None
        self._file = file if file.parent == self._folder else None
        if not keep_system:
            self.session.configure(replace(self.session.settings, system=kept.system))
        say(f"{counted(len(kept.messages) // 2, 'turn')} from {file}", self._quiet)

    def figures(self) -> dict[str, Any]:
        """Sums over all answers: answers, tokens, seconds, interventions."""
        return {
            "answers": len(self.turns),
            "tokens": sum(turn.completion_tokens for turn in self.turns),
            "seconds": sum(turn.decode_s for turn in self.turns),
            "interventions": sum(turn.interventions for turn in self.turns),
        }
