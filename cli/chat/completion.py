"""Completion in a chat: commands, and what each of them takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ..options.override import changeable
from ..options.settings import METHODS
from ..terminal.answer_view import SHOW
from ..terminal.thinking_view import THINK
from .slash_commands import COMMANDS

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

FILES = ("save", "load", "read")  # commands that take a file


def words(before: str) -> list[str]:
    """Return the words that may stand where the cursor is.

    Args:
        before: the line up to the cursor.

    Example:
        >>> words("/show ")
        ['text', 'blend']
    """
    if not before.startswith("/"):
        return []
    name, *arguments = before[1:].split(" ")
    if not arguments:
        return [f"/{command}" for command in COMMANDS]
    if name == "set" and len(arguments) == 2:
        option = changeable().get(arguments[0].replace("-", "_"))
        kind = option and option.type
        return [str(choice) for choice in kind.choices] if isinstance(kind, click.Choice) else []
    values = {"method": METHODS, "show": SHOW, "think": THINK}
    values["set"] = tuple(key.replace("_", "-") for key in changeable())
    return list(values.get(name, ())) if len(arguments) == 1 else []


def make_completer() -> Completer:
    """Return what completes lines of a chat."""
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    paths = PathCompleter(expanduser=True)

    class ChatCompleter(Completer):
        def get_completions(self, document: Document, event: object) -> Iterable[Completion]:
            before = document.text_before_cursor
            name, _, rest = before[1:].partition(" ")
            if before.startswith("/") and name in FILES and " " in before and " " not in rest:
                yield from paths.get_completions(Document(rest), event)  # type: ignore[arg-type]
                return
            begun = before.rsplit(" ", 1)[-1]
            for word in words(before):
                if word.startswith(begun):
                    yield Completion(word, -len(begun))

    return ChatCompleter()
