"""The ``blendin`` command, and ``python -m blendin_cli``.

Everything else is imported inside :func:`main`, so that Ctrl-C ends it without a traceback.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and exit with its code."""
    try:
        from .main import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
