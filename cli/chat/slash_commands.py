"""What may be typed in a chat besides messages: /help, /retry, /set, …"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import click

from ..options.override import overridden
from ..terminal.output import counted, say
from . import inspect_commands
from .conversation import Conversation

NAME_AND_REST = re.compile(r'(?:"([^"]+)"|(\S+))\s*(.*)', re.DOTALL)


class Leave(Exception):  # noqa: N818 - no error: the user wants it
    """The conversation is over."""


def handle(chat: Conversation, line: str) -> None:
    """Answer a message, or carry out a command.

    Raises:
        Leave: after ``/quit``.
        click.UsageError: a command that cannot be carried out.
    """
    text = line.strip()
    if not text.startswith("/"):
        if text:
            chat.ask(text)
        return
    name, _, argument = text[1:].partition(" ")
    if name not in COMMANDS:
        raise click.UsageError(f"/{name} is no command. {SHORT_HELP}")
    COMMANDS[name](chat, argument.strip())


def _help(chat: Conversation, argument: str) -> None:
    """this list"""
    width = max(map(len, USAGE.values())) + 2
    for name, usage in USAGE.items():
        say(f"{usage:<{width}}{COMMANDS[name].__doc__}")
    say("Ctrl-C stops an answer, Alt-Enter begins a new line, Ctrl-D leaves.")


def _clear(chat: Conversation, argument: str) -> None:
    """begin another conversation"""
    chat.clear()


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
    """set the system prompt, or show it; /set system clears it"""
    if argument:
        chat.session.configure(replace(chat.session.settings, system=argument))
    else:
        say(chat.session.settings.system or "no system prompt")


def _set(chat: Conversation, argument: str) -> None:
    """change an option, as /set tau 0.3; /set tau makes it as it was, /set shows them all"""
    name, _, value = argument.partition(" ")
    if not name:
        for key, current in asdict(chat.session.settings).items():
            say(f"{key.rstrip('_'):<24} {current}")
        return
    try:
        given = {name: value.strip() or None}
        session = chat.session
        session.configure(overridden(session.settings, given, session.began))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _save(chat: Conversation, argument: str) -> None:
    """keep the conversation in a file"""
    file = _path(argument, "/save talk.json")
    chat.write(file)
    say(f"kept in {file}")


def _load(chat: Conversation, argument: str) -> None:
    """go on with a conversation that was kept"""
    chat.read(_path(argument, "/load talk.json"))


def _stats(chat: Conversation, argument: str) -> None:
    """figures of all answers so far"""
    sums = chat.figures()
    tokens, seconds, asked = sums["tokens"], sums["seconds"], sums["interventions"]
    rate = asked / tokens if tokens else 0.0
    say(
        f"{counted(sums['answers'], 'answer')}, {counted(tokens, 'token')}, "
        f"{tokens / seconds if seconds else 0:.1f} tokens/s, "
        f"{counted(asked, 'intervention')} ({rate:.1%})"
    )


def _read(chat: Conversation, argument: str) -> None:
    """say what is in a file, with a question after it: /read notes.txt Summarise this."""
    from blendin_mlx.input_text import read_text

    name, question = _name_and_rest(argument)
    file = _path(name, "/read notes.txt Summarise this.")
    try:
        text = read_text(file)
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    chat.ask("\n\n".join(part for part in (text.strip(), question.strip()) if part))


def _name_and_rest(argument: str) -> tuple[str, str]:
    """A file's name, in quotes where it has spaces, and what follows it."""
    match = NAME_AND_REST.match(argument)
    return (match[1] or match[2], match[3]) if match else ("", "")


def _path(name: str, example: str) -> Path:
    if not name:
        raise click.UsageError(f"name a file: {example}")
    try:
        return Path(name.strip('"')).expanduser()
    except RuntimeError as error:  # ~somebody who has no home
        raise click.UsageError(f"{name}: {error}") from None


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
    "method": inspect_commands.method,
    "dial": inspect_commands.dial,
    "show": inspect_commands.show,
    "think": inspect_commands.think,
    "why": inspect_commands.why,
    "alt": inspect_commands.alt,
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
    "think": "show|dim|hide",
    "why": "[N|TEXT]",
    "alt": "N K",
    "save": "FILE",
    "load": "FILE",
    "read": "FILE [QUESTION]",
}
USAGE = {name: f"/{name} {ARGUMENTS.get(name, '')}".strip() for name in COMMANDS}
SHORT_HELP = "/help lists the commands; /quit leaves."
