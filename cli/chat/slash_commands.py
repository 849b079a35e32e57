"""The commands of a chat: /help, /retry, /set, …"""

from __future__ import annotations

import difflib
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from ..habits import our_setting
from ..options.override import overridden
from ..terminal.figures import all_figures
from ..terminal.layout import WIDEST, columns, two_columns
from ..terminal.output import counted, say
from . import inspect_commands, settings_view
from .conversation import Conversation

NAME_AND_REST = re.compile(r'(?:"([^"]+)"|(\S+))\s*(.*)', re.DOTALL)
COMMAND = re.compile(r"/([\w?!.-]*)(?:\s+(.*))?\Z", re.DOTALL)  # a path has another slash
LEAVING = ("exit", "quit", "bye")  # alone on a line, on a terminal


class Leave(Exception):  # noqa: N818 - not an error: the user wants it
    """The conversation is over."""


def handle(chat: Conversation, line: str) -> None:
    """Answer a message, or carry out a command.

    A line whose first word is ``/name`` is a command. ``//text`` is the message ``/text``, and a
    path with another slash in it (``/etc/hosts is …``) begins a message.

    Raises:
        Leave: after ``/quit``.
        click.UsageError: a command that cannot be carried out.
    """
    text = line.strip()
    if text in LEAVING and sys.stdin.isatty():
        raise Leave
    command = COMMAND.match(text)
    if command is None:
        if text:
            chat.ask(text[1:] if text.startswith("//") else text)
        return
    name, argument = command[1], command[2] or ""
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean /{near[0]}?" if near else SHORT_HELP
        raise click.UsageError(f"/{name} is not a command; {hint} (//{name} sends it as a message)")
    COMMANDS[name](chat, argument.strip())


def _help(chat: Conversation, argument: str) -> None:
    """show this list"""
    rows = [(usage, COMMANDS[name].__doc__ or "") for name, usage in USAGE.items()]
    for line in two_columns([*rows, *KEYS], min(columns(), WIDEST)):
        say(line)


def _clear(chat: Conversation, argument: str) -> None:
    """begin another conversation"""
    chat.clear()
    say("a new conversation begins", chat.view.quiet)


def _retry(chat: Conversation, argument: str) -> None:
    """answer the last message again"""
    chat.ask(chat.last_message(), instead=True)


def _undo(chat: Conversation, argument: str) -> None:
    """take back the last message and its answer"""
    say(chat.take_back())


def _edit(chat: Conversation, argument: str) -> None:
    """change the last message in $EDITOR, and answer it"""
    if not sys.stdin.isatty():
        raise click.UsageError("/edit needs a terminal")
    last = chat.last_message() if chat.messages else ""
    places = {"TMPDIR": tempfile.gettempdir()}  # MLX has a folder of its own there, see backend
    changed = click.edit(last, env=places, require_save=False)
    if changed and changed.strip():
        chat.ask(changed.strip(), instead=True)


def _system(chat: Conversation, argument: str) -> None:
    """set the system prompt, or show it; /system "" clears it"""
    session = chat.session
    if not argument:
        say(session.settings.system or "there is no system prompt")
        return
    text = argument[1:-1] if argument[0] == argument[-1] == '"' != argument else argument
    session.configure(replace(session.settings, system=text.strip() or None))
    say("the system prompt is " + ("set" if text.strip() else "cleared"), chat.view.quiet)


def _set(chat: Conversation, argument: str) -> None:
    """change an option, as /set tau 0.3; /set tau resets it, /set lists what holds"""
    session = chat.session
    name, given = our_setting(argument)
    if not name:
        rows = [(key, f"{held} ({source})") for key, held, source in settings_view.rows(session)]
        for line in two_columns(rows, min(columns(), WIDEST)):
            say(line)
        return
    try:
        changes = {name: given or None}
        session.configure(overridden(session.settings, changes, session.began))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    key = name.replace("-", "_")
    held = settings_view.value(session, {"lambda": "lambda_"}.get(key, key))
    say(f"{name} is {'' if given else 'again '}{held}", chat.view.quiet)


def _save(chat: Conversation, argument: str) -> None:
    """save the conversation to a file"""
    file = _path(argument, "/save talk.json")
    if file.is_file() and not file.is_symlink() and file not in chat.saved:
        if not sys.stdin.isatty():
            raise click.UsageError(f"{file} exists; name another file")
        if not click.confirm(f"{file} exists. Overwrite it?", err=True):
            raise click.UsageError("nothing was saved")
    chat.write(file)
    chat.saved.add(file)
    say(f"saved to {file}")


def _load(chat: Conversation, argument: str) -> None:
    """go on with a saved conversation"""
    chat.read(_path(argument, "/load talk.json"))


def _stats(chat: Conversation, argument: str) -> None:
    """show the figures of the last answer, and of all so far"""
    if chat.last is not None:
        say(f"last answer: {all_figures(chat.last.statistics)}")
    sums = chat.figures()
    tokens, seconds, asked = sums["tokens"], sums["seconds"], sums["interventions"]
    rate = asked / tokens if tokens else 0.0
    say(
        f"{counted(sums['answers'], 'answer')}, {counted(tokens, 'token')}, "
        f"{tokens / seconds if seconds else 0:.1f} tokens/s, "
        f"{counted(asked, 'intervention')} ({rate:.1%})"
    )


def _read(chat: Conversation, argument: str) -> None:
    """send the text of a file, with a question after it: /read notes.txt Summarise this."""
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
    """Split a file's name, which is in quotes if it has spaces, from the text after it."""
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
    """quit; /bye, /exit and Ctrl-D do too"""
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
ALIASES = {"?": "help", "bye": "quit", "exit": "quit", "q": "quit", "new": "clear"}
ARGUMENTS = {
    "system": "[TEXT]",
    "set": "[OPTION [VALUE]]",
    "method": "[NAME]",
    "dial": "[0..1]",
    "show": "[text|blend]",
    "think": "[show|dim|hide]",
    "why": "[N|TEXT]",
    "alt": "N K",
    "save": "FILE",
    "load": "FILE",
    "read": "FILE [QUESTION]",
}
USAGE = {name: f"/{name} {ARGUMENTS.get(name, '')}".strip() for name in COMMANDS}
KEYS = [
    ("//TEXT", "send a message that begins with a slash"),
    ("Ctrl-C", "stop an answer"),
    ("Alt-Enter", "begin a new line"),
    ("Ctrl-D", "quit"),
]
SHORT_HELP = "/help lists the commands, /quit quits"
