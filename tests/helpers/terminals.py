"""A terminal with the command on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import prepared_python

DEADLINE_S = 300
# A chat that lets its answers loop, as those of tiny models do.
LOOPING = "from blendin_cli.chat import loops; loops.FEWEST = 10**9\n"
PROMPT = r">[ \x08]"  # prompt_toolkit moves the cursor in place of writing the space


class Terminal:
    """The other side of a pty.

    Args:
        arguments: of the ``blendin`` command.
        home: the folder where it keeps what it keeps.
        columns: how wide the terminal is.
        term: what kind it says it is.
        code: Python that runs before the command does.
        fresh: the command is no fork, but imports all by itself.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        home: str,
        columns: int = 80,
        term: str = "xterm",
        code: str = "",
        fresh: bool = False,
    ) -> None:
        self.seen = ""
        settings = {"BLENDIN_HOME": home, "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1"}
        environment = {**os.environ, **settings, "HF_HUB_OFFLINE": "1"}
        self.fd, there = pty.openpty()
        set_size(there, columns)
        streams: dict[str, Any] = {"stdin": there, "stdout": there, "stderr": there}
        own = {"start_new_session": True, "preexec_fn": _take_terminal}
        options = {"env": environment, **streams, **(own if fresh else {"terminal": True})}
        self.process = prepared_python.begin(command(arguments, code), fresh=fresh, **options)
        os.close(there)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def resize(self, columns: int) -> None:
        """Make it so wide; whatever runs on it gets a SIGWINCH."""
        set_size(self.fd, columns)

    def until(self, pattern: str) -> str:
        """Read until the pattern shows; what came before it is used up.

        Returns:
            What was read up to the end of the pattern.
        """
        deadline = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            more = self._read(deadline, f"{pattern} never came, but {self.seen!r}")
            self.seen += more.decode(errors="replace")
        read, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return read

    def _read(self, deadline: float, otherwise: str = "the command goes on") -> bytes:
        ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, otherwise
        return os.read(self.fd, 4096)

    def leave(self) -> int:
        """The exit code, once everything was said; ``seen`` has it."""
        read = b""
        deadline = time.monotonic() + DEADLINE_S
        try:
            while select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                read += os.read(self.fd, 4096)
        except OSError:  # how Linux says that the other side is closed
            pass
        else:
            raise AssertionError(f"it does not end, but {self.seen + read.decode()!r}")
        self.seen += read.decode(errors="replace")
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        """End the command if it still runs."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self.fd)


def command(arguments: Sequence[str | bytes], code: str = "") -> list[str | bytes]:
    """The ``blendin`` command as a process, after some Python of the test's own."""
    run = ["-c", f"{code}\nfrom blendin_cli.__main__ import main\nmain()"] if code else ["-m"]
    return [sys.executable, *run, *([] if code else ["blendin_cli"]), *arguments]


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def set_size(fd: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))


@contextmanager
def opened(home: str) -> Iterator[Callable[..., Terminal]]:
    """Context manager: ``open(*arguments, **options)`` opens terminals over one home; all close."""
    with ExitStack() as all_of_them:

        def open_one(*arguments: str, **options: Any) -> Terminal:
            return all_of_them.enter_context(closing(Terminal(arguments, home, **options)))

        yield open_one
