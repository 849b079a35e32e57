"""A child process that answers each line with a line, and is killed if it exceeds its limits."""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_LOOK_S = 0.05  # how often the child's memory is checked
CHUNK = 1 << 16
# All that the child sees of the environment: no access tokens, no Python settings.
_PASSED_ON = ("TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class ProcessDiedError(Exception):
    """The child ended instead of answering; ``code`` is as ``Popen.returncode``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"it ended with code {code}")
        self.code = code


class ProcessLimitError(Exception):
    """The child exceeded its limit of time or memory, and was killed."""


class LimitedProcess:
    """A child process, started lazily and kept; one thread at a time asks it.

    It runs in a session of its own, so that Ctrl-C in a terminal reaches the parent alone. It must
    end when its standard input does, which happens however the parent ends.

    Args:
        command: what to run.
        folder: where it runs.
        opening: returns the lines that each new child reads before its first question, and does
            not answer.

    Example:
        >>> cat = LimitedProcess(["cat"], Path.cwd())
        >>> cat.ask(b"hi\\n", wall_s=10, memory=1 << 30, reply_bytes=100)
        b'hi\\n'
    """

    def __init__(
        self, command: Sequence[str], folder: Path, opening: Callable[[], bytes] = bytes
    ) -> None:
        self._command = command
        self._folder = folder
        self._opening = opening
        self._opened = False  # the running child was sent its opening
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The id of the running child, None if none runs."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Start the child if none runs; it need not be ready when this returns."""
        with self._lock:
            self._running()

    def stop(self) -> None:
        """Kill the child, if one runs; the next question starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def ask(self, line: bytes, *, wall_s: float, memory: int, reply_bytes: int) -> bytes:
        """Return the child's answer, which ends in a line break.

        Args:
            line: the question, which ends in a line break.
            wall_s: seconds of wall-clock time until the child is killed.
            memory: most bytes of resident memory.
            reply_bytes: most bytes of the answer.

        Raises:
            ProcessLimitError: the child was killed at a limit.
            ProcessDiedError: it ended by itself, or was ended by the system's limits.
        """
        with self._lock:
            try:
                child = self._running()
                sent = line if self._opened else self._opening() + line
                self._opened = True
                return _Exchange(child, sent, wall_s, memory, reply_bytes).reply()
            except BaseException:  # Ctrl-C too: nobody waits for this answer any more
                self.stop()
                raise

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.stop()
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=self._folder,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            start_new_session=True,
        )
        self._opened = False
        return self._child


class _Exchange:
    """One question to a running child, and its answer."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        line: bytes,
        wall_s: float,
        memory: int,
        reply_bytes: int,
    ) -> None:
        self._child = child
        self._unsent = memoryview(line)
        self._reply = bytearray()
        self._wall_s = wall_s
        self._memory = memory
        self._reply_bytes = reply_bytes

    def reply(self) -> bytes:
        """Send the question and wait for the answer, within the limits."""
        child, deadline = self._child, time.monotonic() + self._wall_s
        assert child.stdin is not None
        assert child.stdout is not None
        os.set_blocking(child.stdin.fileno(), False)
        with selectors.DefaultSelector() as ready:
            ready.register(child.stdin, selectors.EVENT_WRITE)
            ready.register(child.stdout, selectors.EVENT_READ)
            while not self._reply.endswith(b"\n"):
                events = ready.select(_LOOK_S)
                for key, mask in events:
                    if mask & selectors.EVENT_READ:
                        self._read(key.fd)
                    elif not self._write(key.fd):
                        ready.unregister(key.fileobj)
                self._check(deadline, waited=not events)
        return bytes(self._reply)

    def _read(self, pipe: int) -> None:
        got = os.read(pipe, CHUNK)
        if not got:
            raise ProcessDiedError(self._child.wait())
        self._reply += got
        if len(self._reply) > self._reply_bytes:
            raise ProcessLimitError("it writes too much")

    def _write(self, pipe: int) -> bool:
        """Send a part of the question; False if nothing is left to send."""
        try:
            self._unsent = self._unsent[os.write(pipe, self._unsent[:CHUNK]) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # reading says why
            return False
        return bool(self._unsent)

    def _check(self, deadline: float, waited: bool) -> None:
        if time.monotonic() > deadline:
            raise ProcessLimitError(f"it takes more than {self._wall_s:g} s")
        if waited and _memory_of(self._child.pid) > self._memory:
            raise ProcessLimitError("it takes too much memory")


def _memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 if it has ended."""
    import psutil

    try:
        resident: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0
    return resident
