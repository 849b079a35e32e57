"""``python -m blendin_cli.eval``: the harness's own command line, which knows ``blendin``."""

from __future__ import annotations

import sys

import click

from ..errors import INTERRUPTED, explain
from ..terminal.output import complain
from .harness import require_harness


def main() -> int:
    """Run the harness's command line with the model ``blendin``; return the exit code."""
    from blendin_mlx.errors import BlendinError

    try:
        require_harness("python -m blendin_cli.eval")
        from lm_eval.__main__ import cli_evaluate

        from . import model  # noqa: F401 - registers it

        cli_evaluate()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BlendinError, click.ClickException) as error:
        message, code = explain(error)
        complain(f"blendin: {message}")
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
