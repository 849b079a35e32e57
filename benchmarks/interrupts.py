"""How long Ctrl-C takes in each phase: from the signal to the end, or to a chat's next prompt.

The demo pair, real processes and a pty. Each phase is met several times, each time a little later
into it; the worst is what counts.

    python benchmarks/interrupts.py --tries 5
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from timing import machine

DEADLINE_S = 120
SENTENCE = "A boat went down the river past the mill and the old bridge. "
LONG = SENTENCE * 200  # some 2,600 tokens for each model
PROMPT = b"/quit leaves."
# Says when a phase begins, so that a delay is one into it.
MARKS = """
import os
from blendin_models.loading import loader
def told(what, function):
    def call(*arguments, **options):
        os.write(2, what)
        return function(*arguments, **options)
    return call
loader.evaluate_weights = told(b"[loading]", loader.evaluate_weights)
from blendin_mlx.reading.context import Context
Context.prefill = told(b"[prefill]", Context.prefill)
"""
RUN = "from blendin_cli.main import main\nmain()\n"


@contextmanager
def started(arguments: list[str], code: str) -> Iterator[tuple[int, int]]:
    """The command on a terminal: its process id and the other side of the pty."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        os.environ["PROMPT_TOOLKIT_NO_CPR"] = "1"
        os.execv(sys.executable, [sys.executable, "-c", code + RUN, *arguments])
    try:
        yield pid, fd
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(fd)


def read_until(fd: int, found: Callable[[bytes], bool]) -> bytes:
    """What is shown, up to what is looked for; everything where the command ends before."""
    seen, deadline = b"", time.monotonic() + DEADLINE_S
    while not found(seen):
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise SystemExit(f"nothing came for {DEADLINE_S} s, after {seen!r}")
        try:
            seen += os.read(fd, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
    return seen


def ends(pid: int, fd: int, delay: float) -> float:
    """Seconds from Ctrl-C to the end of the command."""
    time.sleep(delay)
    began = time.perf_counter()
    os.write(fd, b"\x03")
    read_until(fd, lambda seen: False)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (130, -signal.SIGINT):
        raise SystemExit(f"the command had ended already, with {status}")
    return time.perf_counter() - began


def in_generate(mark: bytes, prompt: str, code: str, delay: float) -> float:
    """Ctrl-C so long after a mark was shown; b"" for the start of the process."""
    arguments = ["generate", "-q", "--draft", "off", "-m", "2000", prompt]
    with started(arguments, code) as (pid, fd):
        read_until(fd, lambda seen: mark in seen)
        return ends(pid, fd, delay)


def in_chat(message: str, mark: bytes, code: str, delay: float) -> float:
    """Ctrl-C so long after a mark; seconds until the prompt is there again."""
    with started(["chat", "--draft", "off", "-m", "2000"], code) as (_, fd):
        read_until(fd, lambda seen: b"> " in seen or b">\x08" in seen.partition(PROMPT)[2])
        os.write(fd, message.encode() + b"\r")
        read_until(fd, lambda seen: mark in seen)
        time.sleep(delay)
        began = time.perf_counter()
        os.write(fd, b"\x03")
        read_until(fd, lambda seen: b">" in seen.partition(b"end: interrupted")[2])
        return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=5)
    tries = parser.parse_args().tries
    print(f"{tries} tries a phase; {machine()}\n")
    print("| Ctrl-C while | worst, s | median, s |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "long.txt")
        text.write_text(LONG)
        read = f"/read {text}"
        story = "Tell me a long story about a boat."
        phases: dict[str, tuple[Callable[[float], float], float]] = {
            "importing": (lambda d: in_generate(b"", story, "", d + 0.3), 2.0),
            "loading": (lambda d: in_generate(b"[loading]", story, MARKS, d), 0.5),
            "prefill": (lambda d: in_generate(b"[prefill]", LONG, MARKS, d), 4.0),
            "generating": (lambda d: in_generate(b"a", story, "", d), 3.0),
            "prefill, in chat": (lambda d: in_chat(read, b"[prefill]", MARKS, d), 4.0),
            "generating, in chat": (lambda d: in_chat(story, b"[prefill]", MARKS, d + 2), 3.0),
        }
        for name, (measure, within) in phases.items():
            found = sorted(measure(within * n / tries) for n in range(tries))
            print(f"| {name} | {found[-1]:.2f} | {found[tries // 2]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
