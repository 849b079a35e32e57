"""Names of pairs, models and templates, as a shell completes them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from .types import BASE_TEMPLATES


def pair_names(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the pairs of the catalogue whose names begin so."""
    from blendin_models.catalogue import entries

    return [
        CompletionItem(name, help=entry.description)
        for name, entry in entries.pairs().items()
        if name.startswith(begun)
    ]


def model_names(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return models whose names begin so, of the catalogue and imported; then folders."""
    from blendin_models.catalogue import entries
    from blendin_models.storage import paths

    folders = paths.home() / "models"
    imported = [one.name for one in folders.iterdir()] if folders.is_dir() else []
    names = sorted({*entries.models(), *imported})
    found = [CompletionItem(name) for name in names if name.startswith(begun)]
    return [*found, CompletionItem(begun, type="dir")]


def template_names(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return built-in templates whose names begin so; then files."""
    found = [CompletionItem(name) for name in BASE_TEMPLATES if name.startswith(begun)]
    return [*found, CompletionItem(begun, type="file")]


def any_names(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return pairs and models whose names begin so."""
    return [*pair_names(ctx, param, begun), *model_names(ctx, param, begun)[:-1]]
