"""``blendin reference``: write ``docs/reference.md``, the reference of all commands."""

from __future__ import annotations

from collections.abc import Iterator

import click


@click.command(hidden=True)
@click.pass_context
def reference(ctx: click.Context) -> None:
    """Print the reference of all commands, as Markdown."""
    root = ctx.find_root().command
    assert isinstance(root, click.Group)
    click.echo(as_markdown(root), nl=False)


def as_markdown(root: click.Group) -> str:
    """Return the help of all commands as Markdown, a section each."""
    parts = ["# Reference\n\nWritten by `blendin reference`; a test holds it to the program.\n"]
    whole = click.Context(
        root,
        info_name="blendin",
        terminal_width=100,
        max_content_width=100,
        **root.context_settings,
    )
    for ctx in _contexts(whole):
        help_text = ctx.command.get_help(ctx)
        parts.append(f"## {ctx.command_path}\n\n```\n{help_text}\n```\n")
    return "\n".join(parts)


def _contexts(ctx: click.Context) -> Iterator[click.Context]:
    """Yield the contexts of a command and of all its subcommands."""
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name, command in sorted(ctx.command.commands.items()):
            if not command.hidden:
                yield from _contexts(click.Context(command, parent=ctx, info_name=name))
