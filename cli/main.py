"""The ``blendin`` command: its subcommands, and the handling of errors."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from .bench import bench
from .chat.command import chat
from .compare import compare
from .config import config
from .diagnosis.command import diagnose
from .doctor import doctor
from .errors import INTERRUPTED, USAGE, explain
from .eval.command import evaluate
from .generate import generate
from .habits import Group, clearer, completion, show_help, version
from .machines import check_command, follow, is_follower, leave
from .models.commands import models
from .options.config_files import configured, default_map, origin
from .options.plain import add_plain
from .reference_docs import reference
from .run import run
from .score import score
from .serve.command import serve
from .terminal.output import Context, complain
from .terminal.status import STATUS
from .trace.commands import trace
from .tune.command import tune

_HELP = f"{__name__}.help"  # whether help is asked for
# Older releases of click show the help themselves.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class Commands(Group):
    """Click group that handles Ctrl-C and closed pipes itself."""

    def invoke(self, ctx: click.Context) -> Any:
        """Return the exit code of a command, or what it returned."""
        ctx.meta[_HELP] = not set(ctx.help_option_names).isdisjoint(ctx.args)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except click.NoSuchOption as error:
            raise clearer(error) from None
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            return _quiet()


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "BLENDIN", "help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failure, 2 usage, 3 model missing or damaged, "
    "4 pair cannot be blended, 5 not enough memory, 130 interrupted. "
    "Options can be set in the environment too: BLENDIN_GENERATE_TAU=0.3.",
)
@click.version_option(package_name="blendin-mlx", prog_name="blendin")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Let a base model write, and ask a small aligned model where the base is unsure.

    \b
    Try it:  blendin chat --pair demo
             echo "How do I boil an egg?" | blendin generate --pair demo
    """
    try:
        ctx.default_map = default_map(cli)
    except click.UsageError:  # what takes no settings, and help, work where a file is wrong
        if ctx.invoked_subcommand in configured(cli) and not ctx.meta[_HELP]:
            raise
    if not ctx.meta[_HELP]:
        check_command(ctx.invoked_subcommand)


cli.add_command(chat)
cli.add_command(generate)
cli.add_command(run)
cli.add_command(score)
cli.add_command(evaluate)
cli.add_command(compare)
cli.add_command(diagnose)
cli.add_command(serve)
cli.add_command(tune)
cli.add_command(models)
cli.add_command(bench)
cli.add_command(trace)
cli.add_command(doctor)
cli.add_command(config)
cli.add_command(reference)
cli.add_command(completion)
cli.add_command(show_help)
cli.add_command(version)
for command in add_plain(cli):
    command.context_class = Context


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    _replace_closed_streams()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments[:1] or bool(os.environ.get("BLENDIN_DEBUG"))
    try:
        result = follow() if is_follower() else _run(arguments)
        code = result if isinstance(result, int) else 0
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except _NO_ARGUMENTS as help_text:
        help_text.show()
        code = USAGE
    except Exception as error:
        if debug and not isinstance(error.__cause__ or error, click.ClickException):
            complain(traceback.format_exc())
        code = _report(error)
    STATUS.clear()
    leave(code)
    sys.exit(code)


def _run(arguments: Sequence[str]) -> Any:
    return cli.main(args=list(arguments), prog_name="blendin", standalone_mode=False)


def _replace_closed_streams() -> None:
    """Reopen closed standard streams: files would reuse their numbers, and mlx fails on 0."""
    for name, flags in (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            mode = "r" if flags == os.O_RDONLY else "w"
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))


def _report(error: Exception) -> int:
    """Print a one-line message about an error; return the exit code."""
    message, code = explain(error)
    where = ""
    if isinstance(error, click.BadParameter) and (set_by := origin(error)):
        where = f" (set by {set_by})"
    elif isinstance(error, click.UsageError) and error.ctx is not None:
        where = f" (see {error.ctx.command_path} --help)"
    try:
        complain(" ".join(f"blendin: {message}{where}".split()))
    except OSError:
        return code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _quiet()  # buffered output cannot be written either
    return code


def _quiet() -> int:
    """Discard further output, so that the interpreter exits without an error; return 0."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
