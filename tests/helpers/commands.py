"""What the tests of the command share besides fixtures."""

from __future__ import annotations

from dataclasses import dataclass

DEADLINE_S = 300


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    def error(self) -> str:
        """The one line on stderr that an error is."""
        (line,) = self.err.splitlines()
        assert line.startswith("blendin: ")
        assert "Traceback" not in line
        assert self.out == b""
        return line
