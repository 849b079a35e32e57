"""A fork that stands in for a Python process is like one that was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import prepared_python
from running import UNTIL_SIGNAL, WAITING

TELL = """
import os, signal, sys
handled = [signal.getsignal(n) for n in sorted(signal.valid_signals() - {signal.SIGKILL})]
print(__name__, sys.argv, sys.path[0], os.getcwd(), input())
print(sorted(os.environ), ascii(os.environ.get("ONE")))
print([str(one).split(" at ")[0] for one in handled], os.umask(0), signal.pthread_sigmask(0, []))
for stream in (sys.stdin, sys.stdout, sys.stderr):
    how = (stream.encoding, stream.errors, stream.line_buffering, stream.write_through)
    print(stream.name, stream.fileno(), stream.mode, how, stream.newlines, stream.isatty())
print([n for n in range(3, 256) if os.path.exists(f"/dev/fd/{n}")], file=sys.stderr)
"""
LATE = """
import threading
def late():
    threading.main_thread().join()
    print("late")
threading.Thread(target=late).start()
"""
ENDS = {
    "by itself": "print('said')",
    "with a code": "import sys; sys.exit(7)",
    "with a message": "import sys; sys.exit('why')",
    "at once": "import os; print('lost'); os._exit(3)",
    "by a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "by Ctrl-C": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "at its exit": "import atexit; atexit.register(print, 'at the end'); print('said')",
    "with a full device": "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('lost')",
    "with a thread": LATE,
}


def ended(fresh, *arguments, **options):
    """The exit code, and what was written; of an error its last line, as it has another place."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    given = {"env": dict(os.environ), **pipes, **options}  # what C libraries add is not in it
    with prepared_python.begin([sys.executable, *arguments], fresh=fresh, **given) as process:
        out, err = process.communicate(b"typed\n")
    return process.returncode, out.splitlines(), err.splitlines()[-1:]


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_it_finds_what_a_process_finds(tmp_path, variables):
    options = {"cwd": tmp_path, "env": {**os.environ, "ONE": "é\udcff", **variables}}
    line = ("-c", TELL, "a b", b"\xff")
    assert ended(False, *line, **options) == ended(True, *line, **options)


def test_a_script_and_a_module_are_run_as_python_runs_them(tmp_path):
    (tmp_path / "told.py").write_text(TELL)
    for line in (("told.py", "x"), (str(tmp_path / "told.py"),), ("-m", "told", "x")):
        assert ended(False, *line, cwd=tmp_path) == ended(True, *line, cwd=tmp_path)


def test_what_is_ignored_here_is_ignored_there():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert ended(False, "-c", TELL) == ended(True, "-c", TELL)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_a_process_ends(end):
    assert ended(False, "-c", ENDS[end]) == ended(True, "-c", ENDS[end])


def test_a_closed_stream_is_none():
    line = "{} -c 'import sys; print(sys.stdin, sys.__stdin__, sys.stdout.fileno())' <&-"
    with prepared_python.program("python") as file:
        told = [
            subprocess.check_output(["sh", "-c", line.format(name)])
            for name in (file, sys.executable)
        ]
    assert told[0] == told[1] == b"None None 1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_passes_signals_on(number):
    code = f"{UNTIL_SIGNAL}\nsignal.signal({number}, lambda *_: None)\nuntil_signal()\nexit(5)"
    with prepared_python.program("python", "-c", code) as file:
        process = subprocess.Popen([file], stderr=subprocess.PIPE)
        with process:
            assert process.stderr.read(len(WAITING)) == WAITING
            process.send_signal(number)
            assert process.wait() == 5


def test_other_numbers_are_drawn_in_each():
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    assert len({ended(False, "-c", code)[1][0] for _ in range(3)}) == 3


def test_settings_that_python_reads_need_a_process():
    with pytest.raises(AssertionError, match="PYTHONUTF8"):
        ended(False, "-c", "", env={**os.environ, "PYTHONUTF8": "1"})
    with pytest.raises(AssertionError, match="LANG"):
        ended(False, "-c", "", env={**os.environ, "LANG": "x"})
