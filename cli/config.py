"""``blendin config``: show the settings in effect, and where each of them comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from .habits import Group
from .options.config_files import Setting, files, settings_of, variable
from .terminal.output import tell


@click.group(cls=Group)
def config() -> None:
    """Show the settings of config files and the environment.

    \b
    Example:
      blendin config show
    """


@config.command()
@click.option("--all", "everything", is_flag=True, help="Include options at their default.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
@click.pass_context
def show(ctx: click.Context, everything: bool, as_json: bool) -> None:
    """Show the settings in effect, and where each of them comes from.

    \b
    Files, the later one wins; then the environment, then the command line:
      config.toml in the user's config folder (BLENDIN_CONFIG names another)
      blendin.toml in the working directory

    \b
    Examples:
      blendin config show
      blendin config show --all --json | jq '.[] | select(.option == "--tau")'
    """
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    rows = [row for row in _rows(ctx, group) if everything or row["source"] != "default"]
    if as_json:
        tell(json.dumps(rows, ensure_ascii=False, default=str))
        return
    for row in rows:
        tell(f"{row['command']:<10} {row['option']:<28} {row['value']!s:<20} {row['source']}")
    if not rows:
        tell(f"nothing is set; the settings files are {' and '.join(map(str, files()))}")


def _rows(ctx: click.Context, group: click.Group) -> Iterator[dict[str, Any]]:
    for command, settings in settings_of(group).items():
        for parameter in group.commands[command].params:
            if isinstance(parameter, click.Option) and parameter.name:
                value, source = _in_force(command, parameter, settings.get(parameter.name))
                _check(ctx, parameter, value, source)
                row = {"command": command, "option": max(parameter.opts, key=len)}
                is_secret = parameter.hide_input and value is not None
                yield {**row, "value": "(hidden)" if is_secret else value, "source": source}


def _check(ctx: click.Context, option: click.Option, value: Any, source: str) -> None:
    """Refuse a value that its command would refuse, naming where it comes from.

    Raises:
        click.UsageError: the option does not take the value.
    """
    try:
        option.type_cast_value(
            ctx, option.type.split_envvar_value(value) if _several(option, value) else value
        )
    except click.BadParameter as error:
        raise click.UsageError(f"{source}: {max(option.opts, key=len)} {error.message}") from None


def _several(option: click.Option, value: Any) -> bool:
    return option.multiple and isinstance(value, str)


def _in_force(command: str, option: click.Option, setting: Setting | None) -> tuple[Any, str]:
    """Return the value of an option and its source."""
    if value := os.environ.get(name := variable(command, option)):
        return value, name
    if setting is not None:
        return setting.value, str(setting.file)
    default = option.default
    return (default if isinstance(default, str | int | float | bool) else None), "default"
