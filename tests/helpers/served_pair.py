"""``blendin serve`` as a process, with a pair of tiny models."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from running import begin
from serving import DEADLINE_S, Address

MEASURING_NOTHING = ("--draft", "off", "--batch", "8")


@dataclass
class ServedPair:
    """A server that runs, and what it says.

    Attributes:
        address: where it listens, once it is ready.
        lines: what it said on stderr.
    """

    process: subprocess.Popen[bytes]
    address: Address = field(default_factory=lambda: Address(0))
    model: str = ""
    lines: list[str] = field(default_factory=list)
    _ready: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        """Read what it says to the end."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.decode())
            if found := re.match(r"(\S+) is ready at http://[^:]+:(\d+)", self.lines[-1]):
                self.model, self.address = found[1], Address(int(found[2]))
                self._ready.set()
        self._ready.set()

    def wait_until_ready(self) -> None:
        assert self._ready.wait(DEADLINE_S)
        assert self.address.port, "".join(self.lines)


@contextmanager
def served_pair(*options: object, code: str = "") -> Iterator[ServedPair]:
    """Start the command on a free port, wait until it is ready, and end it."""
    process = begin("serve", "--port", "0", *MEASURING_NOTHING, *options, code=code)
    server = ServedPair(process)
    reader = threading.Thread(target=server.read)
    reader.start()
    try:
        server.wait_until_ready()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        finally:
            process.kill()
            reader.join()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
