"""Read settings files: the user's ``config.toml``, and ``blendin.toml`` in the working directory.

The command line overrides environment variables, which override the file in the working directory,
the user's file and the defaults, in this order. Keys are long option names; at the top of a file
they apply to every command that has the option, in a table named after a command to that command.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..terminal.files import FileToWrite
from .override import as_given

_LOCAL = "blendin.toml"


@dataclass(frozen=True)
class Setting:
    """A value, and the file that sets it."""

    value: Any
    file: Path


def files() -> list[Path]:
    """Return the paths of the settings files; later files override earlier ones."""
    from blendin_models.storage.paths import config_folder

    return [config_folder() / "config.toml", Path(_LOCAL)]


def settings_of(group: click.Group) -> dict[str, dict[str, Setting]]:
    """Return the settings of the files, by command and parameter name.

    Raises:
        click.UsageError: a file cannot be read, or has a key or a table that is not known.
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
    """Return the commands that take settings from files."""
    own = {"doctor", "reference", "completion", "help", "version"}
    return [
        name
        for name, one in group.commands.items()
        if not isinstance(one, click.Group) and name not in own
    ]


def _add(found: dict[str, Setting], nearer: dict[str, Setting]) -> None:
    """Override settings by those of a nearer file; its pair also overrides single models."""
    if "pair" in nearer:
        for name in ("base", "aligned", "reference", "base_adapter", "aligned_adapter"):
            found.pop(name, None)
    found.update(nearer)


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by their long names."""
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
    """Validate a table; return its values by option name, spelled with hyphens."""
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
            raise click.UsageError(
                f"{where}: {key!r} names a file to write; pass it on the command line"
            )
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


def variable(command: str, option: click.Parameter) -> str:
    """Return the environment variable that sets an option of a command."""
    return f"BLENDIN_{command}_{option.name}".upper().replace("-", "_")


def origin(error: click.BadParameter) -> str | None:
    """Return the variable, or file and key, that set an invalid value; None for other sources."""
    ctx, option = error.ctx, error.param
    if ctx is None or option is None or option.name is None or ctx.info_name is None:
        return None
    source = ctx.get_parameter_source(option.name)
    if source is ParameterSource.ENVIRONMENT:
        return variable(ctx.info_name, option)
    group = ctx.find_root().command
    if source is not ParameterSource.DEFAULT_MAP or not isinstance(group, click.Group):
        return None
    file = settings_of(group)[ctx.info_name][option.name].file
    return f"{file}: {max(option.opts, key=len).lstrip('-')}"


def default_map(group: click.Group) -> dict[str, dict[str, Any]]:
    """Return the settings of the files as click's default map."""
    return {
        command: {name: setting.value for name, setting in settings.items()}
        for command, settings in settings_of(group).items()
    }
