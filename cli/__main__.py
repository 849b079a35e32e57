"""The ``blendin`` command, and ``python -m blendin_cli``.

Everything else is imported inside :func:`main`, so that Ctrl-C ends it without a traceback.
"""

from __future__ import annotations

import atexit
import signal
import sys


def main() -> None:
    """Run the command and exit with its code."""
    try:
        from .main import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # All is said: a further Ctrl-C would only break off what is done at the exit.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
