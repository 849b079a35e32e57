"""``blendin`` as a fork of a process that has imported everything: a start costs a fraction of one.

It is a program on the PATH like the real one. It hands its arguments, its environment, its folder
and its streams to that process, and ends with the exit code of the fork.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from forked_ranks import import_all

_MESSAGE = 2**20  # bytes
CLIENT = """#!{python} -IS
import json, os, socket, sys
asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [asked], [0, 1, 2])
    sys.exit(int(server.recv(8) or 70))
"""


@contextmanager
def forked_command() -> Iterator[Path]:
    """Context manager: a folder, for the beginning of the PATH, whose ``blendin`` is a fork."""
    with TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket must be short
        address = f"{folder}/socket"
        program = Path(folder, "blendin")
        program.write_text(CLIENT.format(python=sys.executable, address=address))
        program.chmod(0o755)
        line = [sys.executable, __file__, address]
        with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                yield program.parent
            finally:
                process.terminate()


def _serve(address: str) -> NoReturn:
    import_all()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                _watch(connection)
            connection.close()


def _watch(connection: socket.socket) -> NoReturn:
    """Fork the command, wait for it, and tell its exit code."""
    asked, streams, _, _ = socket.recv_fds(connection, _MESSAGE, 3)
    child = os.fork()
    if child == 0:
        connection.close()
        arguments, environment, place = json.loads(asked)
        _become(arguments, environment, place, streams)
    for stream in streams:
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.send(str(code).encode())
    os._exit(0)


def _become(
    arguments: list[str], environment: dict[str, str], folder: str, streams: list[int]
) -> NoReturn:
    from blendin_cli.main import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    main(arguments)
    raise AssertionError("main() does not return")


if __name__ == "__main__":
    _serve(sys.argv[1])
