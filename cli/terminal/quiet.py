"""The option ``--quiet``, which also silences warnings and logs of libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .status import STATUS


def quiet_option(command: Any) -> Any:
    """Give a command ``-q``; it gets the value as ``quiet``."""
    return click.option(
        "--quiet", "-q", is_flag=True, callback=_hush, help="Nothing on stderr but errors."
    )(command)


def _hush(ctx: click.Context, option: click.Parameter, value: bool) -> bool:
    if value:
        ctx.with_resource(_silence())
    return value


@contextmanager
def _silence() -> Iterator[None]:
    """Context manager: no status line, and no logs or warnings of libraries, even later ones."""
    before, STATUS.silent = logging.root.manager.disable, True
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        STATUS.silent = False
