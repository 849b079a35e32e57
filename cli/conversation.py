"""A conversation with a pair: what was said, and what may be done with it besides saying more."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import looking
from .override import overridden
from .session import Session
from .shown import make_shown
from .terminal import counted, interruptible, say

if TYPE_CHECKING:
    from blendin_mlx.answering import Piece
    from blendin_mlx.candidates import Position
    from blendin_mlx.statistics import Statistics

VERSION = 1
MESSAGE_KEYS = {"role", "content"}


class Leave(Exception):  # noqa: N818 - no error: the user wants it
    """The conversation is over."""


class Conversation:
    """What was said so far, over two loaded models.

    Args:
        session: the models and the settings.
        quiet: no closing lines.
        autosave: where each turn is kept, None to keep none.
        show, marks: the text alone, or the blend (see :mod:`.shown`).
    """

    def __init__(
        self,
        session: Session,
        quiet: bool = False,
        autosave: Path | None = None,
        show: str = "text",
        marks: bool = False,
    ) -> None:
        self.session = session
        self.show = show
        self.steps: list[Piece] = []  # of the last answer
        self.messages: list[dict[str, str]] = []
        self.turns: list[Statistics] = []
        self._quiet = quiet
        self._autosave = autosave
        self._marks = marks

    def handle(self, line: str) -> None:
        """Answer a message, or carry out a command.

        Raises:
            Leave: after ``/quit``.
            click.UsageError: a command that cannot be carried out.
        """
        text = line.strip()
        if not text.startswith("/"):
            if text:
                self.ask(text)
            return
        name, _, argument = text[1:].partition(" ")
        if name not in COMMANDS:
            raise click.UsageError(f"/{name} is no command. {SHORT_HELP}")
        COMMANDS[name](self, argument.strip())

    def ask(self, text: str, instead: bool = False) -> None:
        """Say something, and show what is answered; an interrupted answer is kept as it is.

        Args:
            instead: in place of the last message.
        """
        before = self.messages[:-2] if instead else self.messages
        self._answer([*before, {"role": "user", "content": text}])

    def answer_again(self, begun: Sequence[int]) -> None:
        """Answer the last message once more, with this beginning (ids of the base)."""
        self._answer(self.messages[:-1], begun)

    def last_message(self) -> str:
        """What was said last.

        Raises:
            click.UsageError: nothing was said yet.
        """
        if not self.messages:
            raise click.UsageError("nothing was said yet")
        return self.messages[-2]["content"]

    def look_at(self, index: int) -> Position:
        """What was in question at a token of the last answer."""
        from blendin_mlx.candidates import look_at

        session = self.session
        return look_at(
            session.pair,
            session.prompt(self.messages[:-1]),
            [piece.step.id for piece in self.steps[:index]],
            session.method,
            projection=session.settings.projection,  # type: ignore[arg-type]
        )

    def _answer(self, asked: list[dict[str, str]], begun: Sequence[int] = ()) -> None:
        """Show what is answered; where that fails, the conversation is as it was."""
        shown = make_shown(self.show, self._marks, self._quiet)
        kept = self._kept_pieces(begun)
        beginning = self.session.pair.base.vocabulary.bytes_of(begun).decode(errors="ignore")
        steps = list(kept)
        try:
            shown.begin(beginning)
            with interruptible() as interrupt:
                for response in self.session.answer(asked, interrupt, begun=begun):
                    shown.show(response)
                    steps += response.pieces
        finally:
            shown.end()
        shown.close(response)
        self.steps = steps
        self.turns.append(response.statistics)
        text = beginning + response.statistics.text
        self.messages = [*asked, {"role": "assistant", "content": text}]
        self._keep()

    def _keep(self) -> None:
        """Keep the conversation for ``--resume``; said once where that cannot be done."""
        if self._autosave is None:
            return
        try:
            self.write(self._autosave)
        except click.UsageError as error:
            self._autosave = None
            say(f"{error.format_message()}; this conversation is not kept for --resume")

    def _kept_pieces(self, begun: Sequence[int]) -> list[Piece]:
        """The steps of the last answer that a beginning takes over; its last token is new."""
        if not begun:
            return []
        from blendin_mlx.answering import Piece

        *kept, last = self.steps[: len(begun)]
        vocabulary = self.session.pair.base.vocabulary
        written = vocabulary.bytes_of(begun[-1:]).decode(errors="ignore")
        return [*kept, Piece(replace(last.step, id=begun[-1], is_stop=False), written)]

    def take_back(self) -> str:
        """Forget the last message and its answer; the message."""
        message = self.last_message()
        self.messages = self.messages[:-2]
        self.steps = []
        return message

    def write(self, file: Path) -> None:
        """Keep the conversation in a file."""
        pair, system = self.session.pair, self.session.settings.system
        content = {
            "type": "blendin conversation",
            "version": VERSION,
            "models": {"base": pair.base.name, "aligned": pair.aligned.name},
            "system": system,
            "messages": self.messages,
        }
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f".{file.name}.part")
            part.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
            part.replace(file)
        except OSError as error:
            raise click.UsageError(f"{file} cannot be written: {error.strerror}") from None

    def read(self, file: Path) -> None:
        """Go on with a conversation that was kept.

        Raises:
            click.UsageError: the file is missing, or holds no conversation of this version.
        """
        content = kept_in(file)
        messages = content["messages"]
        self.messages = messages
        self.steps = []
        self.session.configure(replace(self.session.settings, system=content.get("system")))
        say(f"{counted(len(messages) // 2, 'turn')} from {file}", self._quiet)


def kept_in(file: Path) -> dict[str, Any]:
    """The conversation of a file.

    Raises:
        click.UsageError: the file is missing, or holds no conversation of this version.
    """
    content = _read_json(file)
    if content.get("type") != "blendin conversation":
        raise click.UsageError(f"{file} holds no conversation")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise click.UsageError(f"{file} is of version {found!r}; this program reads {VERSION}")
    messages = content.get("messages")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise click.UsageError(f"{file} is damaged: its messages are none")
    return content


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} holds no conversation: {error}") from None
    return content if isinstance(content, dict) else {}


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == MESSAGE_KEYS
        and all(isinstance(part, str) for part in value.values())
    )


def _help(chat: Conversation, argument: str) -> None:
    """this list"""
    width = max(map(len, USAGE.values())) + 2
    for name, usage in USAGE.items():
        say(f"{usage:<{width}}{COMMANDS[name].__doc__}")
    say("Ctrl-C stops an answer, Alt-Enter begins a new line, Ctrl-D leaves.")


def _clear(chat: Conversation, argument: str) -> None:
    """forget the conversation"""
    chat.messages.clear()
    chat.steps = []


def _retry(chat: Conversation, argument: str) -> None:
    """answer the last message again"""
    chat.ask(chat.last_message(), instead=True)


def _undo(chat: Conversation, argument: str) -> None:
    """take back the last message and its answer"""
    say(f"taken back: {chat.take_back()}")


def _edit(chat: Conversation, argument: str) -> None:
    """change the last message in $EDITOR, and answer it"""
    if not sys.stdin.isatty():
        raise click.UsageError("/edit needs a terminal")
    last = chat.last_message() if chat.messages else ""
    changed = click.edit(last, require_save=False)
    if changed and changed.strip():
        chat.ask(changed.strip(), instead=True)


def _system(chat: Conversation, argument: str) -> None:
    """set the system prompt, or show it"""
    if argument:
        chat.session.configure(replace(chat.session.settings, system=argument))
    else:
        say(chat.session.settings.system or "no system prompt")


def _set(chat: Conversation, argument: str) -> None:
    """change an option, as /set tau 0.3; without one, show them all"""
    name, _, value = argument.partition(" ")
    if not name:
        for key, current in asdict(chat.session.settings).items():
            say(f"{key:<24} {current}")
        return
    try:
        chat.session.configure(overridden(chat.session.settings, {name: value.strip()}))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _save(chat: Conversation, argument: str) -> None:
    """keep the conversation in a file"""
    if not argument:
        raise click.UsageError("name a file: /save talk.json")
    chat.write(Path(argument).expanduser())
    say(f"kept in {argument}")


def _load(chat: Conversation, argument: str) -> None:
    """go on with a conversation that was kept"""
    if not argument:
        raise click.UsageError("name a file: /load talk.json")
    chat.read(Path(argument).expanduser())


def _stats(chat: Conversation, argument: str) -> None:
    """figures of all answers so far"""
    tokens = sum(turn.completion_tokens for turn in chat.turns)
    seconds = sum(turn.decode_s for turn in chat.turns)
    asked = sum(turn.interventions for turn in chat.turns)
    rate = asked / tokens if tokens else 0.0
    say(
        f"{counted(len(chat.turns), 'answer')}, {counted(tokens, 'token')}, "
        f"{tokens / seconds if seconds else 0:.1f} tokens/s, "
        f"{counted(asked, 'intervention')} ({rate:.1%})"
    )


def _read(chat: Conversation, argument: str) -> None:
    """say what is in a file, with a question after it: /read notes.txt Summarise this."""
    name, _, question = argument.partition(" ")
    if not name:
        raise click.UsageError("name a file: /read notes.txt Summarise this.")
    file = Path(name).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8 text: byte {error.start}") from None
    chat.ask("\n\n".join(part for part in (text.strip(), question.strip()) if part))


def _quit(chat: Conversation, argument: str) -> None:
    """leave (or Ctrl-D)"""
    raise Leave


COMMANDS: dict[str, Callable[[Conversation, str], None]] = {
    "help": _help,
    "clear": _clear,
    "retry": _retry,
    "undo": _undo,
    "edit": _edit,
    "system": _system,
    "set": _set,
    "method": looking.method,
    "dial": looking.dial,
    "show": looking.show,
    "why": looking.why,
    "alt": looking.alt,
    "save": _save,
    "load": _load,
    "stats": _stats,
    "read": _read,
    "quit": _quit,
}
ARGUMENTS = {
    "system": "[TEXT]",
    "set": "[OPTION VALUE]",
    "method": "NAME",
    "dial": "0..1",
    "show": "text|blend",
    "why": "[N|TEXT]",
    "alt": "N K",
    "save": "FILE",
    "load": "FILE",
    "read": "FILE [QUESTION]",
}
USAGE = {name: f"/{name} {ARGUMENTS.get(name, '')}".strip() for name in COMMANDS}
SHORT_HELP = "/help lists the commands; /quit leaves."
