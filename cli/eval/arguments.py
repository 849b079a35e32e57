"""Arguments of the harness's own command line, read as the options that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ..options.groups import batch_option, evaluating_options
from ..options.settings import Settings
from ..session import Session


@click.command("model_args")
@evaluating_options
@batch_option("1")
def _loaded(settings: Settings, batch: int | None) -> tuple[Session, int | None]:
    return Session(settings), batch


def session_of(given: Mapping[str, Any], batch: int | str | None) -> tuple[Session, int | None]:
    """Load the pair that arguments name; return it, and how many answers are written at once.

    Args:
        given: values by the long names of options, hyphens or underscores between words.
        batch: the harness's batch size: a number, ``auto``, or None for one.

    Raises:
        click.UsageError: an argument is not an option, or has a wrong value.

    Example:
        >>> session, batch = session_of({"pair": "demo", "method": "nudging", "tau": 0.3}, 1)
    """
    words = [word for name, value in given.items() for word in _words(name, value)]
    if batch is not None:
        words += ["--batch", str(batch).partition(":")[0]]
    with _loaded.make_context("model_args", words) as ctx:
        loaded: tuple[Session, int | None] = _loaded.invoke(ctx)
    return loaded


def _words(name: str, value: Any) -> list[str]:
    """Return what is typed for an option with a value."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", str(value)]
