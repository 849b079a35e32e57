"""A child process that answers a line with a line, and is killed where it exceeds its limits."""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_LOOK_S = 0.05  # how often the child's memory is looked at
CHUNK = 1 << 16
# All that the child sees of the environment: no tokens, no Python settings.
_PASSED_ON = ("TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class ProcessDiedError(Exception):
    """The child ended in place of answering; ``code`` is as ``Popen.returncode``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"it ended with code {code}")
        self.code = code


class ProcessLimitError(Exception):
    """The child took more time or memory than it may; it was killed."""


class LimitedProcess:
    """A child process, started when it is needed and kept; one thread at a time asks it.

    It runs in a session of its own, so that Ctrl-C in a terminal reaches the parent alone. It must
    end when its standard input does, which happens when the parent ends in whatever way.

    Args:
        command: what to run.
        folder: where it runs.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The number of the process that runs now."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Start the child where none runs; it need not be ready when this returns."""
        with self._lock:
            self._running()

    def stop(self) -> None:
        """Kill the child, if there is one; the next question starts another."""
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
            wall_s: seconds by the clock until it is killed.
            memory: bytes that it may take.
            reply_bytes: the longest answer.

        Raises:
            ProcessLimitError: the child was killed at a limit.
            ProcessDiedError: it ended by itself, or by the system's limits.
        """
        with self._lock:
            exchange = _Exchange(self._running(), line, wall_s, memory, reply_bytes)
            try:
                return exchange.reply()
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
        return self._child


class _Exchange:
    """A question to a running child, and its answer."""

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
    """Bytes that a process has in memory; 0 where it has ended."""
    import psutil

    try:
        resident: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0
    return resident
