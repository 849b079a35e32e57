"""What users of ollama, llm and mlx_lm type: it works, or they are told what to use."""

from __future__ import annotations

import difflib
from typing import NoReturn

import click

from .terminal.output import tell

# Commands of other programs, and what does the same here.
ELSEWHERE = {
    "list": "blendin models list",
    "ls": "blendin models list",
    "ps": "blendin models list",
    "pull": "blendin models pull",
    "show": "blendin models show",
    "rm": "blendin models remove",
    "import": "blendin models import",
    "create": "blendin models import",
    "verify": "blendin models verify",
    "stop": "Ctrl-C: nothing runs in the background",
    "prompt": 'blendin generate "PROMPT"',
}
# Options of other programs, and what does the same here.
OPTIONS = {
    "--prompt": 'the prompt is an argument: {command} "PROMPT"',
    "-p": 'the prompt is an argument: {command} "PROMPT"',
    "--model": "a pair has two models: --pair NAME, or --base MODEL --aligned MODEL",
    "--temperature": "the temperature is --temp",
    "--num-predict": "the most tokens are --max-tokens",
    "--system-prompt": "the system prompt is --system",
    "--adapter-path": "adapters are not loaded: fuse them into the model first",
}
WITH_PROMPT = ("generate", "compare")


def refuse_command(name: str, known: list[str]) -> NoReturn:
    """Refuse a command that does not exist, with what to use in its place.

    Raises:
        click.UsageError: always.
    """
    if name in ELSEWHERE:
        raise click.UsageError(f"{name!r} is not a command of blendin; use {ELSEWHERE[name]}")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "blendin --help lists them"
    raise click.UsageError(f"{name!r} is not a command; {hint}")


def clearer(error: click.UsageError) -> click.UsageError:
    """Return an error of the command line as a user understands it best.

    An option of another program is answered with ours.
    """
    if isinstance(error, click.NoSuchOption):
        return _of_option(error)
    return error


def _of_option(error: click.NoSuchOption) -> click.UsageError:
    name, ctx = error.option_name, error.ctx
    if name not in OPTIONS or ctx is None:
        return error
    command = ctx.command_path
    if name in ("-p", "--prompt") and ctx.info_name not in WITH_PROMPT:
        command = f"{ctx.find_root().info_name} generate"
    said = OPTIONS[name].format(command=command)
    return click.UsageError(f"no such option {name}; {said}", ctx)


@click.command(hidden=True)
@click.pass_context
def version(ctx: click.Context) -> None:
    """Show the version, as --version does."""
    from importlib.metadata import version as installed

    tell(f"blendin, version {installed('blendin-mlx')}")


@click.command("help", hidden=True)
@click.argument("names", nargs=-1)
@click.pass_context
def show_help(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of a command, as --help does."""
    inner = ctx.find_root()
    for name in names:
        group = inner.command
        command = group.get_command(inner, name) if isinstance(group, click.Group) else None
        if command is None:
            known = group.list_commands(inner) if isinstance(group, click.Group) else []
            refuse_command(name, known)
        inner = type(inner)(command, info_name=name, parent=inner)
    tell(inner.get_help())


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, and names of pairs and models.

    \b
    Examples:
      eval "$(blendin completion bash)"     in ~/.bashrc
      eval "$(blendin completion zsh)"      in ~/.zshrc
      blendin completion fish > ~/.config/fish/completions/blendin.fish
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    tell(kind(root.command, {}, "blendin", "_BLENDIN_COMPLETE").source())
