"""Parse the tables of a TOML file into dataclasses; keys and types are validated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from blendin_mlx.input_text import parsed_toml

from ..errors import ModelError
from ..storage.small_files import read_regular

Entry = TypeVar("Entry")


def tables(file: Path, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield the tables of one kind in a file, by name.

    Args:
        file: the TOML file.
        kind: ``models`` or ``pairs``.

    Raises:
        ModelError: the file cannot be read, or has tables of an unknown kind.
    """
    try:
        content = parsed_toml(read_regular(file))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from None
    if unknown := sorted(set(content) - {"models", "pairs"}):
        raise ModelError(f"{file}: a table is [models.NAME] or [pairs.NAME], not {unknown[0]!r}")
    found = content.get(kind, {})
    if not isinstance(found, dict):
        raise ModelError(f"{file}: {kind} is not a table")
    yield from found.items()


def entry(kind: type[Entry], content: Any, name: str, where: str) -> Entry:
    """Parse a table into a dataclass.

    Args:
        kind: the dataclass; its fields are the known keys, without defaults the required ones.
        content: the parsed TOML.
        name: the value of the field `name`.
        where: file and table, for messages.

    Raises:
        ModelError: a key is unknown or missing, or its value is invalid.
    """
    if not isinstance(content, dict):
        raise ModelError(f"{where} is not a table")
    made: Any = kind
    known: dict[str, Field[Any]] = {f.name: f for f in fields(made) if f.name != "name"}
    if unknown := sorted(set(content) - set(known)):
        raise ModelError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    needed = [key for key, field in known.items() if field.default is MISSING]
    if missing := [key for key in needed if key not in content]:
        raise ModelError(f"{where} lacks {', '.join(missing)}")
    types = get_type_hints(kind)
    values = {key: _value(value, types[key], f"{where} {key}") for key, value in content.items()}
    try:
        checked: Entry = made(name=name, **values)
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from None
    return checked


def _value(value: Any, wanted: Any, where: str) -> Any:
    """Return a value checked against a type; a list of strings becomes a tuple."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = tuple(value)
    for choice in get_args(wanted):
        if get_origin(choice) is Literal and isinstance(value, str):
            if value not in get_args(choice):
                known = ", ".join(get_args(choice))
                raise ModelError(f"{where} must be one of {known}, not {value!r}")
            return value
    allowed = [getattr(kind, "__origin__", kind) for kind in (get_args(wanted) or (wanted,))]
    if getattr(wanted, "__origin__", None) is tuple:
        allowed = [tuple]
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed:
        raise ModelError(f"{where} is of the wrong type: {value!r}")
    return value
