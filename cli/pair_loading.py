"""Load the pair that the options name, with progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .machines import load
from .options.settings import DEFAULT_PAIR, Settings
from .options.types import WeightedModel
from .terminal.output import say
from .terminal.progress import progress

if TYPE_CHECKING:
    from blendin_mlx.model import Pair
    from blendin_models.pair import PairSpec

LONGEST_PROMPT = 4096  # tokens that memory is checked for besides the answer


def named_pair(
    pair: str | None,
    base: str | None,
    aligned: Sequence[WeightedModel],
    aligned_adapter: Path | None = None,
) -> str | None:
    """Return the catalogue pair that is named or the default one, None if both models are named.

    An adapter of the aligned model names the guide, too, if the base is named.

    Raises:
        click.UsageError: one side of a pair is not named.
    """
    if pair is None and base is None and not aligned:
        return DEFAULT_PAIR
    if pair is None and (base is None or (not aligned and aligned_adapter is None)):
        missing = "--base" if base is None else "--aligned"
        raise click.UsageError(f"a pair has two models: pass {missing} too, or --pair NAME")
    return pair


def guides_of(aligned: Sequence[WeightedModel]) -> dict[str, Any]:
    """Return the aligned models as the arguments of a ``PairSpec``."""
    names = tuple(one.name for one in aligned)
    return {"aligned": names or None, "weights": tuple(one.weight for one in aligned)}


def pair_of(settings: Settings) -> str | None:
    """Return the catalogue pair that the settings mean, see :func:`named_pair`."""
    return named_pair(settings.pair, settings.base, settings.aligned, settings.aligned_adapter)


def spec_of(settings: Settings) -> PairSpec:
    """Return the pair that the settings name, sized for a long prompt and the answer.

    Raises:
        click.UsageError: one side of a pair is not named, or a template is for several guides.
    """
    from blendin_models.pair import PairSpec

    if len(settings.aligned) > 1 and settings.aligned_template is not None:
        raise click.UsageError("--aligned-template is of one aligned model; here are several")
    return PairSpec(
        pair=pair_of(settings),
        base=settings.base,
        **guides_of(settings.aligned),
        reference=settings.reference,
        base_adapter=settings.base_adapter,
        aligned_adapter=settings.aligned_adapter,
        tokens=settings.max_tokens + LONGEST_PROMPT,
        kv_bits=settings.kv_bits,
        force=settings.force,
        needs_chat_template=settings.aligned_template is None,
    )


def load_pair(spec: PairSpec, quiet: bool, split: bool = False) -> Pair:
    """Load the models, with progress, and a notice if the BLAS is slow.

    Args:
        spec: the pair.
        quiet: print nothing on stderr.
        split: whether the base is split over all machines.
    """
    from blendin_mlx.backend import mlx
    from blendin_mlx.chat_template import render

    render.start()  # the child process starts while the models load
    if mlx.BLAS.notice:
        say(mlx.BLAS.notice, quiet)
    with progress(quiet) as report:
        return load(spec, report, split)


def keep_resident() -> None:
    """Wire the memory of the models, and a tenth more for caches, until the command ends."""
    from blendin_mlx.backend.mlx import mx
    from blendin_models.loading.memory import wired

    click.get_current_context().with_resource(wired(int(1.1 * mx.get_active_memory())))
