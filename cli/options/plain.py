"""The option ``--plain`` of every command: plain text, as on a dumb terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


def add_plain(root: click.Command) -> list[click.Command]:
    """Add the option to a command and its subcommands; return all of them."""
    if not isinstance(root, click.Group):
        root.params.append(_option())
        return [root]
    return [root, *(one for child in root.commands.values() for one in add_plain(child))]


def _option() -> click.Option:
    return click.Option(
        ["--plain"],
        is_flag=True,
        expose_value=False,
        callback=_make_plain,
        help="No colours and no progress bars, as with TERM=dumb.",
    )


def _make_plain(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if value:
        ctx.with_resource(_dumb_terminal())


@contextmanager
def _dumb_terminal() -> Iterator[None]:
    """Context manager: set the variables that tell libraries that the terminal is dumb."""
    before = {name: os.environ.get(name) for name in ("NO_COLOR", "TERM")}
    os.environ.update(NO_COLOR="1", TERM="dumb")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
