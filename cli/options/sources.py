"""Where the value of an option comes from: the command line, a variable, a file, a default."""

from __future__ import annotations

import click
from click.core import ParameterSource

from .config_files import settings_of, variable


def source(ctx: click.Context, parameter: click.Parameter) -> str:
    """Return where the value of a command's option comes from.

    Example:
        >>> source(ctx, tau)
        'BLENDIN_CHAT_TAU'
    """
    kind = ctx.get_parameter_source(parameter.name or "")
    if kind is ParameterSource.COMMANDLINE:
        return "command line"
    if kind is ParameterSource.ENVIRONMENT:
        return variable(ctx.info_name or "", parameter)
    if kind is ParameterSource.DEFAULT_MAP:
        return file_of(ctx, parameter)
    return "default"


def file_of(ctx: click.Context, parameter: click.Parameter) -> str:
    """Return the settings file that an option's value comes from."""
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    found = settings_of(group).get(ctx.info_name or "", {}).get(parameter.name or "")
    return str(found.file) if found else "a settings file"
