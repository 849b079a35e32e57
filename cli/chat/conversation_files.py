"""Conversation files: written by ``/save`` and after each turn, read by ``--resume``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..terminal.files import write_whole

Message = dict[str, str]

VERSION = 1
KEYS = {"role", "content"}


@dataclass(frozen=True)
class Saved:
    """A saved conversation.

    Attributes:
        messages: of the user and the assistant in turns.
        system: the system prompt, if there was one.
    """

    messages: tuple[Message, ...]
    system: str | None


def new_file(folder: Path) -> Path:
    """Return the path for a conversation that begins now."""
    return folder / datetime.now().strftime("%Y-%m-%d-%H%M%S-%f.json")


def last_file(folder: Path) -> Path:
    """Return the file of the conversation that was saved last.

    Raises:
        click.UsageError: there is none.
    """
    kept = [file for file in folder.glob("*.json") if not file.name.startswith(".")]
    if not kept:
        raise click.UsageError(f"there is no conversation to go on with in {folder}")
    return max(kept, key=lambda file: file.stat().st_mtime_ns)


def write(
    file: Path,
    messages: Sequence[Message],
    system: str | None,
    models: Any,
    make_folder: bool = False,
) -> None:
    """Save a conversation atomically.

    Args:
        file: the file.
        messages: of the user and the assistant in turns.
        system: the system prompt, if there is one.
        models: the names of the models by role.
        make_folder: whether to make its folder if there is none.

    Raises:
        click.UsageError: the file cannot be written.
    """
    content = {
        "type": "blendin conversation",
        "version": VERSION,
        "models": models,
        "system": system,
        "messages": list(messages),
    }
    try:
        _refuse_odd(file)
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        elif not file.parent.is_dir():
            raise click.UsageError(f"{file} cannot be written: there is no folder {file.parent}")
        write_whole(file, json.dumps(content, ensure_ascii=False, indent=1), "conversation")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written: {error.strerror}") from None


def _refuse_odd(file: Path) -> None:
    """Refuse folders, links and devices: a conversation neither replaces nor follows them."""
    kinds = {"folder": file.is_dir(), "link": file.is_symlink()}
    kinds["device or pipe"] = file.exists() and not file.is_file()
    for kind, is_it in kinds.items():
        if is_it:
            raise click.UsageError(f"{file} cannot be written: it is a {kind}; name another file")


def read(file: Path) -> Saved:
    """Read the conversation of a file.

    Raises:
        click.UsageError: the file is missing, or is not a conversation of this version.
    """
    content = _read_json(file)
    if content.get("type") != "blendin conversation":
        raise click.UsageError(f"{file} is not a conversation")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise click.UsageError(f"{file} is of version {found!r}; this program reads {VERSION}")
    messages, system = content.get("messages"), content.get("system")
    if not isinstance(messages, list) or not _in_turns(messages):
        raise click.UsageError(
            f"{file} is damaged: its messages are not turns of user and assistant"
        )
    if not isinstance(system, str | None):
        raise click.UsageError(f"{file} is damaged: its system prompt is not text")
    return Saved(tuple(messages), system)


def _read_json(file: Path) -> dict[str, Any]:
    from blendin_mlx.input_text import parsed_json, read_text

    try:
        content = parsed_json(read_text(file))
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} is not a conversation: {error}") from None
    return content if isinstance(content, dict) else {}


def _in_turns(messages: Sequence[Any]) -> bool:
    """Return whether the user and the assistant speak in turns, the assistant last."""
    roles = [message["role"] for message in messages if _is_message(message)]
    return len(roles) == len(messages) and roles == ["user", "assistant"] * (len(roles) // 2)


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == KEYS
        and all(isinstance(part, str) for part in value.values())
    )
