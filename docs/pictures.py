"""Take the picture of a terminal that the README shows: run the commands, draw what they print.

    python docs/pictures.py

The answers are the program's own, in the colours of a terminal; its lines of figures follow.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = (
    'blendin generate --show blend "How many legs does a spider have?"',
    'blendin generate --show blend "Name three fruits."',
    'blendin generate --show blend -m 60 "Give me three tips for sleeping well."',
)
COLUMNS = 100


def run(command: str) -> tuple[str, str]:
    """Return what a command writes: stdout as on a terminal, stderr as in a pipe."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "blendin_cli", *shlex.split(command)[1:]]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(theirs)
        written = _read(ours)
        assert process.stderr is not None
        said = process.stderr.read().decode()
    if process.returncode:
        raise SystemExit(f"{command}: {said}")
    return written.replace("\r\n", "\n"), said


def _read(descriptor: int) -> str:
    data = b""
    with open(descriptor, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(4096):
                data += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
    return data.decode()


def main() -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for command in COMMANDS:
        written, said = run(command)
        console.print(Text("$ ", style="bold") + Text(command, style="bold"))
        console.print(Text.from_ansi(written.rstrip("\n")))
        figures = [line for line in said.splitlines() if "interventions" in line]
        console.print(Text("\n".join([*figures, ""]), style="dim"))
    picture = Path(__file__).with_name("terminal.svg")
    # The reader's own monospaced font will do: a picture fetches nothing.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="blendin"), flags=re.S)
    picture.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
