"""Settings in files: ``config.toml`` in the user's config folder, ``blendin.toml`` where one works.

An option on the command line comes first, then its environment variable, then the file of the
working directory, then the user's own, then the program's default. Keys are long option names; at
the top of a file they hold for every command that has such an option, in a table named like a
command for that command alone.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..terminal.files import FileToWrite
from .override import as_given

LOCAL = "blendin.toml"


@dataclass(frozen=True)
class Setting:
    """A value from a file."""

    value: Any
    file: Path


def files() -> list[Path]:
    """Where settings are looked for; the later file wins."""
    from blendin_models.storage.paths import config_folder

    return [config_folder() / "config.toml", Path(LOCAL)]


def settings_of(group: click.Group) -> dict[str, dict[str, Setting]]:
    """What the files set, by command and parameter name.

    Raises:
        click.UsageError: a file that cannot be read, or a key that no command has.
    """
    options = {name: _options(group.commands[name]) for name in configured(group)}
    anywhere = {key: option for known in options.values() for key, option in known.items()}
    found: dict[str, dict[str, Setting]] = {name: {} for name in options}
    for file in filter(Path.is_file, files()):
        content = _read(file)
        tables = {key: value for key, value in content.items() if isinstance(value, dict)}
        common = _checked(content, anywhere, set(tables), str(file))
        if unknown := sorted(set(tables) - set(options)):
            raise click.UsageError(f"{file}: {unknown[0]!r} is not a command with options")
        for command, known in options.items():
            own = _checked(tables.get(command, {}), known, set(), f"{file} [{command}]")
            shared = {key: value for key, value in common.items() if key in known}
            both = {**shared, **own}.items()
            _add(found[command], {str(known[key].name): Setting(v, file) for key, v in both})
    return found


def configured(group: click.Group) -> list[str]:
    """The commands that take settings from files: those that run models."""
    own = {"doctor", "reference", "completion", "help", "version"}
    return [
        name
        for name, one in group.commands.items()
        if not isinstance(one, click.Group) and name not in own
    ]


def _add(found: dict[str, Setting], nearer: dict[str, Setting]) -> None:
    """The settings of a nearer file; a pair named there comes before models named farther away."""
    if "pair" in nearer:
        for name in ("base", "aligned", "reference"):
            found.pop(name, None)
    found.update(nearer)


def _options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by their long names."""
    return {
        name.lstrip("-"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name
        for name in parameter.opts
        if name.startswith("--")
    }


def _checked(
    content: dict[str, Any], known: dict[str, click.Option], besides: set[str], where: str
) -> dict[str, Any]:
    """The settings of a table with their keys as options are spelled."""
    settings = {}
    for key, value in content.items():
        if key in besides:
            continue
        option = key.replace("_", "-")
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"{where}: {key!r} is not an option{hint}")
        if isinstance(known[option].type, FileToWrite):
            raise click.UsageError(f"{where}: {key!r} names a file to write: say it as an option")
        try:
            settings[option] = as_given(known[option], key, value)
        except ValueError as error:
            raise click.UsageError(f"{where}: {error}") from None
    return settings


def _read(file: Path) -> dict[str, Any]:
    from blendin_mlx.input_text import parsed_toml, read_text

    try:
        return parsed_toml(read_text(file))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from None


def default_map(group: click.Group) -> dict[str, dict[str, Any]]:
    """The settings of the files as click takes them."""
    return {
        command: {name: setting.value for name, setting in settings.items()}
        for command, settings in settings_of(group).items()
    }
