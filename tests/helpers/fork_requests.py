"""Requests to the process that forks: a command line with its streams, its pid, its exit code.

The stand-in for Python imports this at each start, so it imports as little as it can.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence

_NUMBER = 8  # bytes of an answer: a process id, an exit code
_CHUNK = 2**16
# Python ignores these in each process.
_ALWAYS_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}
_PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def ask(
    address: str,
    arguments: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    streams: Mapping[int, int],
    terminal: bool = False,
) -> tuple[socket.socket, int]:
    """Start a fork; return the connection that tells its exit code, and its pid.

    Args:
        address: of the process that forks.
        arguments: of Python: ``-c``, ``-m`` or a script, with what follows.
        folder: the working directory.
        environment: the whole of it.
        streams: descriptors here that become the standard streams 0, 1 and 2 of the fork; one that
            is left out is closed there.
        terminal: stream 0 becomes the controlling terminal of a new session.
    """
    asked = {
        "arguments": arguments,
        "folder": folder,
        "environment": dict(environment),
        "streams": list(streams),
        "ignored": _ignored(),
        "terminal": terminal,
    }
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(address)
    message = json.dumps(asked).encode()
    sent = socket.send_fds(channel, [message], list(streams.values()))
    channel.sendall(message[sent:])
    channel.shutdown(socket.SHUT_WR)
    return channel, read_number(channel)


def _ignored() -> list[int]:
    """Return the signals that a program started here would ignore, too."""
    numbers = signal.valid_signals() - _ALWAYS_IGNORED
    return [int(one) for one in numbers if signal.getsignal(one) is signal.SIG_IGN]


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return what :func:`ask` sent, and the descriptors."""
    message, descriptors, _, _ = socket.recv_fds(channel, _CHUNK, 3)
    while more := channel.recv(_CHUNK):
        message += more
    return message, descriptors


def send_number(channel: socket.socket, number: int) -> None:
    """Tell a process id or an exit code."""
    channel.sendall(f"{number:{_NUMBER}}".encode())


def read_number(channel: socket.socket) -> int:
    """Return the number that comes next."""
    told = channel.recv(_NUMBER)
    assert told, "the process that forks has ended"
    return int(told)


def stand_in(address: str, arguments: Sequence[str]) -> None:
    """Run Python as a fork, with the streams of this process, and end as it ends.

    Signals are passed on, but for those that no process can handle.
    """
    streams = {number: number for number in range(3) if _is_open(number)}
    channel, pid = ask(address, arguments, os.getcwd(), os.environ, streams)
    for number in _PASSED_ON.difference(_ignored()):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    for descriptor in streams:  # the other end of a pipe waits for the fork alone
        os.close(descriptor)
    code = read_number(channel)
    if code < 0:
        if -code in _PASSED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
