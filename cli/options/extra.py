"""Refusal of arguments that a command does not take, with a hint what to use."""

from __future__ import annotations

import click


def refuse_extra(ctx: click.Context, instead: str) -> None:
    """Refuse arguments of a command that has none; a pair's name is recognised.

    Args:
        ctx: the command's context.
        instead: the advice if the argument is not a name.

    Raises:
        click.UsageError: there is an argument.
    """
    if ctx.args:
        raise click.UsageError(f"{hint(ctx.command_path, ctx.args[0]) or instead}", ctx)


def hint(command: str, argument: str) -> str | None:
    """Return what to type if the argument is the name of a pair or a model, else None."""
    from blendin_models.catalogue import entries

    if argument in entries.pairs():
        return f"{argument!r} is a pair: {command} --pair {argument}"
    if argument in entries.models():
        return f"{argument!r} is a model: {command} --base MODEL --aligned MODEL names a pair"
    return None
