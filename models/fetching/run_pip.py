"""Run pip, as a program of its own: ended with whoever started it, never waiting for ever.

Started with ``python -I``, so that neither the current folder nor ``PYTHONPATH`` decides which pip
runs. It imports nothing of this package.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def end_with_parent() -> None:
    """Exit when standard input ends: its other end is held by the process that started this one."""
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a buffer's lock would abort the exit
    os._exit(1)


def ignore_asked_waits() -> None:
    """Let pip use its own back-off in place of a ``Retry-After`` of any length."""
    try:
        from pip._vendor.urllib3.util.retry import Retry
    except ImportError:  # another pip, or none: it says so itself
        return
    setattr(Retry, "get_retry_after", lambda self, response: None)  # noqa: B010 - not in its type


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    ignore_asked_waits()
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
