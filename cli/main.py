"""The ``blendin`` command: its groups, and what becomes of errors."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import click

from .chat import chat
from .doctor import doctor
from .generate import generate
from .models import models

FAILURE, USAGE, MODEL, PAIR, INTERRUPTED = 1, 2, 3, 4, 130


@click.group(
    context_settings={"auto_envvar_prefix": "BLENDIN", "help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failure, 2 usage, 3 model missing or damaged, "
    "4 pair cannot be blended, 130 interrupted.",
)
@click.version_option(package_name="blendin-mlx", prog_name="blendin")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Let a base model write, and ask a small aligned model where the base is unsure.

    \b
    Try it:  blendin chat --pair demo
             echo "How do I boil an egg?" | blendin generate --pair demo
    """


cli.add_command(chat)
cli.add_command(generate)
cli.add_command(models)
cli.add_command(doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments[:1] or bool(os.environ.get("BLENDIN_DEBUG"))
    try:
        result = cli.main(args=list(arguments), prog_name="blendin", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = _quiet()
    except Exception as error:
        if debug and not isinstance(error, click.ClickException):
            traceback.print_exc()
        code = _report(error)
    sys.exit(code)


def _report(error: Exception) -> int:
    """Say in one line what is wrong; return the exit code."""
    message, code = _explain(error)
    where = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        where = f" (see {error.ctx.command_path} --help)"
    line = " ".join(f"blendin: {message}{where}".split())
    try:
        click.echo(line, err=True)
    except OSError:
        return code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _quiet()  # what is still buffered cannot be written either
    return code


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    from blendin_mlx.errors import BlendinError, PairError, PromptError
    from blendin_models.errors import ModelError

    if isinstance(error, BlendinError):
        codes = {ModelError: MODEL, PairError: PAIR, PromptError: USAGE}
        return str(error), next(
            (c for kind, c in codes.items() if isinstance(error, kind)), FAILURE
        )
    if isinstance(error, ValueError):
        return str(error), USAGE
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else ""
        return f"{about}{error.strerror or error}", FAILURE
    kind = type(error).__name__
    return f"unexpected {kind}: {error}; blendin --debug … shows where", FAILURE


def _quiet() -> int:
    """Nobody reads our output any more: let the interpreter end without complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
