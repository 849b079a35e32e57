"""Ctrl-C handlers: act at a safe point, and never lose an interrupt."""

from __future__ import annotations

import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

LOCAL_MODES = 3  # where in the attributes of a terminal


class Interrupt:
    """A callable that is true once Ctrl-C was pressed; a second press raises at once."""

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self) -> bool:
        """Return whether Ctrl-C was pressed."""
        return self.pressed

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Context manager: Ctrl-C sets a flag instead of raising KeyboardInterrupt."""
    interrupt = Interrupt()
    with _on_interrupt(interrupt._notice):
        yield interrupt


@contextmanager
def _on_interrupt(notice: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Context manager: Ctrl-C calls ``notice``, unless the process ignores Ctrl-C already."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, notice)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def without_echo() -> Iterator[None]:
    """Context manager: do not echo what is typed; it waits for the next prompt."""
    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
    except (OSError, ValueError, termios.error):  # not a terminal
        yield
        return
    silent = [*before]
    silent[LOCAL_MODES] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)


@contextmanager
def unswallowed_interrupt() -> Iterator[None]:
    """Context manager: Ctrl-C raises KeyboardInterrupt; if a library swallows it, on exit again.

    Some libraries catch every exception while they look for optional modules on import.
    """
    pressed = False

    def notice(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    with _on_interrupt(notice):
        yield
    if pressed:
        raise KeyboardInterrupt
