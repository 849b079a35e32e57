"""JSON lines of a long run, kept as they come; a run that was cut goes on where it stopped."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any


def whole_lines(file: Path) -> list[bytes]:
    """The lines that were written to their end."""
    return file.read_bytes().split(b"\n")[:-1]


def mend(file: Path) -> None:
    """Make the file if there is none; half a last line, of a run that was cut, goes."""
    file.touch()
    os.truncate(file, file.read_bytes().rfind(b"\n") + 1)


def append(file: Path, records: Iterable[Any], total: int, what: str) -> None:
    """Write records, each as soon as it is there, and say how many of how many there are."""
    with file.open("a") as output:
        for number, record in enumerate(records, 1):
            output.write(json.dumps(asdict(record)) + "\n")
            output.flush()
            print(f"{number} of {total} {what}", file=sys.stderr)
