"""Load the pair that the options name, with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .machines import load
from .options.settings import DEFAULT_PAIR, Settings
from .terminal.output import say
from .terminal.progress import progress

if TYPE_CHECKING:
    from blendin_mlx.model import Pair
    from blendin_models.pair import PairSpec

LONGEST_PROMPT = 4096  # tokens that memory is checked for besides the answer


def named_pair(pair: str | None, base: str | None, aligned: str | None) -> str | None:
    """Return the catalogue pair that is named or the default one, None if both models are named.

    Raises:
        click.UsageError: one side of a pair is not named.
    """
    if pair is None and base is None and aligned is None:
        return DEFAULT_PAIR
    if pair is None and (base is None or aligned is None):
        missing = "--base" if base is None else "--aligned"
        raise click.UsageError(f"a pair has two models: pass {missing} too, or --pair NAME")
    return pair


def spec_of(settings: Settings) -> PairSpec:
    """Return the pair that the settings name, sized for a long prompt and the answer.

    Raises:
        click.UsageError: one side of a pair is not named.
    """
    from blendin_models.pair import PairSpec

    return PairSpec(
        pair=named_pair(settings.pair, settings.base, settings.aligned),
        base=settings.base,
        aligned=settings.aligned,
        reference=settings.reference,
        tokens=settings.max_tokens + LONGEST_PROMPT,
        kv_bits=settings.kv_bits,
        force=settings.force,
        needs_chat_template=settings.aligned_template is None,
    )


def load_pair(spec: PairSpec, quiet: bool) -> Pair:
    """Load the models, with progress, and a notice if the BLAS is slow."""
    from blendin_mlx.backend import mlx
    from blendin_mlx.chat_template import render

    render.start()  # the child process starts while the models load
    if mlx.BLAS.notice:
        say(mlx.BLAS.notice, quiet)
    with progress(quiet) as report:
        return load(spec, report)


def keep_resident() -> None:
    """Wire the memory of the models, and a tenth more for caches, until the command ends."""
    from blendin_mlx.backend.mlx import mx
    from blendin_models.loading.memory import wired

    click.get_current_context().with_resource(wired(int(1.1 * mx.get_active_memory())))
