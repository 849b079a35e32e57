"""The process that has imported what the command imports; its forks are Python processes.

It computes nothing, as threads do not survive a fork. A fork is made a process as Python starts
it: streams, environment, folder, signals, arguments. Settings that are read before that (see
``prepared_python.READ_AT_THE_START``) are those of this process.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import io
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from fork_requests import receive, send_number

# Modules that read the environment when they are imported.
_SETTINGS = ("huggingface_hub.constants", "datasets.config")


class Forking:
    """Forks this process for each request, and tells how the forks ended.

    Args:
        address: where requests come in.
    """

    def __init__(self, address: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen()
        self._ended, self._end = os.pipe()
        self._running: dict[int, socket.socket] = {}

    def next_fork(self) -> tuple[dict[str, Any], list[int]]:
        """Return in a fork only: what was asked, and the descriptors that came with it."""
        os.set_blocking(self._end, False)
        signal.set_wakeup_fd(self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            waited: list[Any] = [0, self._listening, self._ended]
            ready, _, _ = select.select(waited, [], [])
            if 0 in ready:
                self._leave()
            if self._ended in ready:
                os.read(self._ended, 4096)
                self._tell_ends()
            if self._listening in ready and (asked := self._fork()):
                return asked

    def _fork(self) -> tuple[dict[str, Any], list[int]] | None:
        channel, _ = self._listening.accept()
        message, descriptors = receive(channel)
        child = os.fork()
        if child == 0:
            channel.close()
            self._forget()
            return json.loads(message), descriptors
        self._running[child] = channel
        for one in descriptors:
            os.close(one)
        send_number(channel, child)
        return None

    def _forget(self) -> None:
        """Close what belongs to the process that forks."""
        signal.set_wakeup_fd(-1)
        self._listening.close()
        os.close(self._ended)
        os.close(self._end)
        for channel in self._running.values():
            channel.close()

    def _tell_ends(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                with self._running.pop(ended[0]) as channel, suppress(BrokenPipeError):
                    send_number(channel, os.waitstatus_to_exitcode(ended[1]))

    def _leave(self) -> NoReturn:
        """End, because those who ask have ended; nothing goes on without them."""
        for one in self._running:
            os.kill(one, signal.SIGKILL)
            os.waitpid(one, 0)
        sys.exit()


def become(asked: Mapping[str, Any], descriptors: list[int]) -> None:
    """Become what was asked for, up to its end."""
    _take_streams(dict(zip(asked["streams"], descriptors, strict=True)))
    if asked["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    _set_signals(asked["ignored"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    _read_the_environment()
    _open_streams()
    _draw_other_numbers()
    run(asked["arguments"])


def _take_streams(given: Mapping[int, int]) -> None:
    for number in range(3):
        if number in given:
            os.dup2(given[number], number)
            os.close(given[number])
        else:
            os.close(number)


def _set_signals(ignored: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def _read_the_environment() -> None:
    """Read what imported modules have read of another environment."""
    from blendin_mlx.backend.private import keep_kernels_private

    for name in _SETTINGS:
        if name in sys.modules:
            importlib.reload(sys.modules[name])
    tempfile.tempdir = None
    keep_kernels_private()


def _open_streams() -> None:
    """Open the standard streams as Python does; those that are closed are None."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _text_stream(number, name)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _text_stream(number: int, name: str) -> io.TextIOWrapper | None:
    mode = "w" if number else "r"
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    try:
        raw = io.FileIO(number, mode, closefd=False)
    except OSError:
        return None
    raw.name = f"<{name}>"
    like = getattr(sys, name)
    stream = io.TextIOWrapper(
        _buffered(raw, at_once),
        encoding=like.encoding,
        errors=like.errors,
        newline="\n",
        line_buffering=not at_once and (number == 2 or raw.isatty()),
        write_through=at_once,
    )
    stream.mode = mode  # type: ignore[misc]
    return stream


def _buffered(raw: io.FileIO, at_once: bool) -> io.FileIO | io.BufferedReader | io.BufferedWriter:
    if raw.readable():
        return io.BufferedReader(raw)
    return raw if at_once else io.BufferedWriter(raw)


def _draw_other_numbers() -> None:
    """Seed generators, which forks would share; ``random`` does so by itself."""
    import numpy as np

    np.random.seed(random.getrandbits(32))


def run(arguments: list[str]) -> None:
    """Run what Python runs when it is started with these arguments."""
    what, *rest = arguments
    if what == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv, sys.path[0] = [what, *rest[1:]], ""
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        sys.argv, sys.path[0] = arguments, str(Path(what).resolve().parent)
        runpy.run_path(what, run_name="__main__")


def prepare(names: Sequence[str]) -> None:
    """Import modules, so that forks neither copy their pages for the collector nor at their end."""
    gc.disable()
    before = set(sys.modules)
    prepared: list[str] = []
    atexit.register(_leave, prepared)  # registered first, it is called last
    for name in names:
        import_module(name)
    prepared += set(sys.modules) - before
    kept: list[object] = list(sys.modules.values())
    kept.append(kept)  # a cycle, so it stays
    gc.freeze()


def _leave(prepared: Sequence[str]) -> None:
    """Leave modules as they are, which Python would take apart."""
    for name in prepared:
        sys.modules.pop(name, None)


if __name__ == "__main__":
    prepare(sys.argv[2:])
    forking = Forking(sys.argv[1])
    print("ready", flush=True)
    fork = forking.next_fork()
    gc.enable()
    become(*fork)
