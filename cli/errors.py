"""Messages and exit codes of errors."""

from __future__ import annotations

import errno

import click

# Exit codes; 0 is done.
FAILURE = 1
USAGE = 2
MODEL = 3
PAIR = 4
MEMORY = 5
INTERRUPTED = 130


def explain(error: Exception) -> tuple[str, int]:
    """Return a one-line message (what, where, what to do next) and the exit code of an error."""
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    from blendin_mlx.errors import BlendinError, MachineError, PairError, PromptError, SchemaError
    from blendin_models.errors import MemoryNeededError, ModelError

    if isinstance(error, BlendinError):
        codes = {MemoryNeededError: MEMORY, ModelError: MODEL, PairError: PAIR}
        codes |= {PromptError: USAGE, SchemaError: USAGE}
        return str(error), next(
            (c for kind, c in codes.items() if isinstance(error, kind)), FAILURE
        )
    if isinstance(error, MachineError):
        return str(error), FAILURE
    if isinstance(error, ValueError):
        return str(error), USAGE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"cannot write {error.filename or ''}".rstrip() + f": {error.strerror}", FAILURE
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else "cannot write or read: "
        return f"{about}{error.strerror or error}", FAILURE
    kind = type(error).__name__
    return f"unexpected {kind}: {error}; blendin --debug … shows where", FAILURE
