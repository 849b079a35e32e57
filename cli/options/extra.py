"""Arguments that a command does not take, answered with what to use."""

from __future__ import annotations

import click


def refuse_extra(ctx: click.Context, instead: str) -> None:
    """Refuse arguments of a command that has none; a pair's name is recognised.

    Args:
        instead: what to do in place of an argument.

    Raises:
        click.UsageError: there is one.
    """
    if ctx.args:
        raise click.UsageError(f"{hint(ctx.command_path, ctx.args[0]) or instead}", ctx)


def hint(command: str, argument: str) -> str | None:
    """Return what to type where a pair's or a model's name was given as an argument, else None."""
    from blendin_models.catalogue import entries

    if argument in entries.pairs():
        return f"{argument!r} is a pair: {command} --pair {argument}"
    if argument in entries.models():
        return f"{argument!r} is a model: {command} --base MODEL --aligned MODEL names a pair"
    return None
