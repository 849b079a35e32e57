"""What users of ollama, llm and mlx_lm type: it works, or they are told what to use."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from .options.override import PARAMETERS
from .terminal.output import tell

# Commands of other programs, and what does the same here.
ELSEWHERE = {
    "list": "blendin models list",
    "ls": "blendin models list",
    "ps": "blendin models list",
    "pull": "blendin models pull NAME",
    "show": "blendin models show NAME",
    "rm": "blendin models remove NAME",
    "import": "blendin models import FILE",
    "create": "blendin models import FILE.gguf",  # there a name follows
    "verify": "blendin models verify NAME",
    "stop": "Ctrl-C: nothing runs in the background",
    "prompt": 'blendin generate "PROMPT"',
}
_PLACES = re.compile(r'\b(NAME|FILE)$|"PROMPT"$')  # where what was typed belongs
# Options of other programs, and what does the same here.
OPTIONS = {
    "--prompt": 'the prompt is an argument: {command} "PROMPT"',
    "-p": 'the prompt is an argument: {command} "PROMPT"',
    "--model": "a pair has two models: --pair NAME, or --base MODEL --aligned MODEL",
    "--temperature": "the temperature is --temp",
    "--num-predict": "the most tokens are --max-tokens",
    "--system-prompt": "the system prompt is --system",
    "--adapter-path": "a pair has two models: --base-adapter DIR or --aligned-adapter DIR",
}
_SUMMARY = 200  # characters: more than any command's first sentence has
WITH_PROMPT = ("generate", "compare")


class Group(click.Group):
    """Click group that says what to use in place of a command that it lacks."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, each with its whole summary, however narrow the terminal is."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(_SUMMARY))
                    for name, command in commands.items()
                    if command is not None and not command.hidden
                ]
            )

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return the command that the arguments name."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            refuse_command(ctx, args[0], args[1:], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def refuse_command(
    ctx: click.Context, name: str, given: Sequence[str], known: list[str]
) -> NoReturn:
    """Refuse a command that does not exist, with what to use in its place.

    Args:
        ctx: the context of the group that lacks it.
        name: the command.
        given: what was typed after it.
        known: the commands of the group.

    Raises:
        click.UsageError: always.
    """
    if name in ELSEWHERE:
        use = _filled_in(ELSEWHERE[name], [one for one in given if not one.startswith("-")])
        raise click.UsageError(f"{name!r} is not a command of {ctx.command_path}; use {use}", ctx)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise click.UsageError(f"{name!r} is not a command{hint}", ctx)


def _filled_in(command: str, given: list[str]) -> str:
    """Return a command with what was typed in its place."""
    return _PLACES.sub(lambda _: shlex.join(given), command) if given else command


def our_setting(argument: str) -> tuple[str, str]:
    """Split what follows ``/set`` into the name of an option and its value.

    Example:
        >>> our_setting("parameter temperature 0.5")
        ('temp', '0.5')
    """
    words = re.sub(r"\Aparameters?(\s+|\Z)", "", argument)
    name, _, value = words.partition(" ")
    return PARAMETERS.get(name, name), value.strip()


def clearer(error: click.NoSuchOption) -> click.UsageError:
    """Return an error as a user understands it best: an option from elsewhere names ours."""
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
            refuse_command(inner, name, (), known)
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
