"""The command as a process that ends by itself or by a signal: a fork, unless it must be fresh."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import prepared_python
from terminals import DEADLINE_S, command

# ``until_signal()`` says that it is there, and goes on when a signal has come: no sleep, no race.
UNTIL_SIGNAL = """
import os, signal
def until_signal():
    come, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told)
    os.write(2, b"[waiting]")
    os.read(come, 1)
    signal.set_wakeup_fd(before)
"""
WAITING = b"[waiting]"


def blendin(
    *arguments: object, stdin: bytes = b"", code: str = "", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """``blendin("generate", "hi")``: run the command to its end."""
    process = begin(*arguments, code=code, **options)
    out, err = process.communicate(stdin, timeout=DEADLINE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def begin(
    *arguments: object, code: str = "", fresh: bool = False, **options: Any
) -> subprocess.Popen[bytes]:
    """The command as a process, after some Python of the test's own.

    Args:
        arguments: of the command.
        code: what runs before.
        fresh: it is no fork, but imports all by itself.
        options: of Popen.
    """
    line = command([a if isinstance(a, bytes) else str(a) for a in arguments], code)
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for name in ("GENERATE", "CHAT"):  # whether drafts pay is measured, and said
        environment.setdefault(f"BLENDIN_{name}_DRAFT", "off")
    return prepared_python.begin(line, fresh=fresh, **{"env": environment, **pipes, **options})


def interrupted(
    *arguments: object, code: str, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """The command, with Ctrl-C pressed where the code calls ``until_signal()``."""
    options["stdin"] = subprocess.DEVNULL
    process = begin(*arguments, code=UNTIL_SIGNAL + code, **options)
    assert process.stderr is not None
    seen = b""
    while WAITING not in seen and (more := os.read(process.stderr.fileno(), 4096)):
        seen += more
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert WAITING in seen, f"it ended early: {seen!r}"
    return subprocess.CompletedProcess(process.args, process.returncode, out, seen + err)


def the_line(ended: subprocess.CompletedProcess[bytes], code: int) -> str:
    """The one line that an error is."""
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("blendin: ")
    assert ended.returncode == code
    return line


def pair(base: Path, aligned: Path) -> tuple[str, ...]:
    """The options that name two folders."""
    return ("--base", str(base), "--aligned", str(aligned))
