"""Script: run pip, exit when the parent process exits, and never wait forever.

It is started with ``python -I``, so that neither the current folder nor ``PYTHONPATH`` decides
which pip runs. It imports nothing from this package.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def end_with_parent() -> None:
    """Exit when standard input closes: the parent process holds its other end."""
    os.read(sys.stdin.fileno(), 1)  # unbuffered: the lock of a buffer would abort the exit
    os._exit(1)


def ignore_asked_waits() -> None:
    """Make pip ignore ``Retry-After``, which may be of any length, and use its own back-off."""
    try:
        from pip._vendor.urllib3.util.retry import Retry
    except ImportError:  # another pip, or none: pip itself reports that
        return
    setattr(Retry, "get_retry_after", lambda self, response: None)  # noqa: B010 - not in its type


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    ignore_asked_waits()
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
