"""Ctrl-C: noticed at a good moment, and never swallowed."""

from __future__ import annotations

import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

LOCAL_MODES = 3  # where in the attributes of a terminal


class Interrupt:
    """Whether Ctrl-C was pressed; the second time it interrupts at once."""

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self) -> bool:
        return self.pressed

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Within this, Ctrl-C asks for an end instead of breaking off."""
    interrupt = Interrupt()
    with _on_interrupt(interrupt._notice):
        yield interrupt


@contextmanager
def _on_interrupt(notice: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within this, Ctrl-C calls ``notice``; it stays ignored in the background of a script."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, notice)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def without_echo() -> Iterator[None]:
    """Context manager: what is typed meanwhile is not shown, and waits for the next prompt."""
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
    """Within this, Ctrl-C breaks off as ever; where a library swallows that, it does at the end.

    Some libraries catch whatever is raised while they look for optional parts on import.
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
