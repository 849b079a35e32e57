"""The pair that the options name, loaded with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .terminal.output import say
from .terminal.progress import progress

if TYPE_CHECKING:
    from blendin_mlx.model import Pair

LONGEST_PROMPT = 4096  # tokens that memory is reckoned for besides the answer


def named_pair(pair: str | None, base: str | None, aligned: str | None) -> str | None:
    """The catalogue pair that is meant, None where both models are named.

    Raises:
        click.UsageError: one side of a pair is not named.
    """
    if pair is None and base is None and aligned is None:
        return "demo"
    if pair is None and (base is None or aligned is None):
        missing = "--base" if base is None else "--aligned"
        raise click.UsageError(f"a pair has two models: pass {missing} too, or --pair NAME")
    return pair


def load_pair(
    pair: str | None,
    base: str | None,
    aligned: str | None,
    quiet: bool,
    tokens: int = LONGEST_PROMPT,
    force: bool = False,
    kv_bits: int | None = None,
    reference: str | None = None,
    needs_chat_template: bool = False,
) -> Pair:
    """Load the models, with progress and what there is to say about this machine."""
    from blendin_mlx.backend import mlx
    from blendin_mlx.chat_template import render
    from blendin_models import load_pair as load

    render.start()  # it is ready when the models are
    if mlx.BLAS.notice:
        say(mlx.BLAS.notice, quiet)
    with progress(quiet) as report:
        return load(
            pair,
            base,
            aligned,
            report,
            reference=reference,
            tokens=tokens,
            force=force,
            kv_bits=kv_bits,
            needs_chat_template=needs_chat_template,
        )


def keep_resident() -> None:
    """Wire what the models take, and a tenth for caches, until the command ends."""
    from blendin_mlx.backend.mlx import mx
    from blendin_models.loading.memory import wired

    click.get_current_context().with_resource(wired(int(1.1 * mx.get_active_memory())))
