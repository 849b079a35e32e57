"""The command as a process: pipes, full devices, signals, imports."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

import prepared_python
from commands import DEADLINE_S, Result

LONG = ("-m", "4000")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from blendin_cli.main import cli\n"
        "for command in ([], ['generate'], ['chat'], ['models'], ['serve'], ['eval']):\n"
        "    cli.main([*command, '--help'], standalone_mode=False)\n"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'numpy', 'rich', 'prompt_toolkit', 'jinja2',"
        " 'h11', 'asyncio', 'lm_eval', 'datasets'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert "BLENDIN_GENERATE_TAU" in told.stdout


def test_closed_stdout_ends_quietly(start, tiny):
    process = start("generate", *tiny, *LONG, "hi", stdin=subprocess.DEVNULL)
    assert process.stdout.read(5)
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 0
    assert process.stderr.read() == b""


@pytest.mark.parametrize("command", [("models", "list"), ("--help",)])
def test_closed_stdout_of_a_short_command_ends_quietly(start, command):
    process = start(*command)
    process.stdout.close()
    process.wait(DEADLINE_S)
    assert process.stderr.read() == b""


@pytest.mark.parametrize("command", [("models", "list"), ("generate", "-q", "-m", "3", "hi")])
def test_full_device_is_one_line(start, tiny, command):
    with open("/dev/full", "wb") as full:
        options = tiny if command[0] == "generate" else ()
        process = start(*command, *options, stdin=subprocess.DEVNULL, stdout=full)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert err == b"blendin: cannot write: No space left on device\n"


def test_interrupt_keeps_what_was_produced(start, tiny):
    process = start("generate", *tiny, *LONG, "hi", stdin=subprocess.DEVNULL)
    begun = process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert len(begun) == 5
    assert out.endswith(b"\n")
    (line,) = err.decode().splitlines()
    assert line.endswith("interrupted")


def test_interrupt_leaves_a_valid_object_and_trace(start, tiny, tmp_path):
    file = tmp_path / "t.jsonl"
    command = ("generate", *tiny, *LONG, "--json", "-q", "--trace", file, "hi")
    process = start(*command, stdin=subprocess.DEVNULL)
    wait_for_steps(process, file, 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (130, b"")
    answer = json.loads(out)
    assert answer["finish_reason"] == "interrupted"
    assert 3 <= len(answer["token_ids"]) < 4000
    assert len(answer["text"]) > 3
    last = json.loads(file.read_text().splitlines()[-1])
    assert (last["type"], last["token_ids"]) == ("end", answer["token_ids"])


def wait_for_steps(process, file, steps):
    """Until the trace, which is flushed per line, holds so many."""
    while process.poll() is None:
        if file.exists() and file.read_text().count('"type": "step"') >= steps:
            return
    pytest.fail(f"ended early: {process.communicate()}")


def test_in_the_background_of_a_script_an_interrupt_is_ignored(start, tiny):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is started inherits it
    process = start("generate", *tiny, "-m", "40", "hi", stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, before)
    assert process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert b"cut at --max-tokens" in err


def test_interrupt_while_the_prompt_is_awaited(run, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("blendin_cli.generate.read_parts", interrupted)
    assert run("generate") == Result(130, b"", "")


def test_two_interrupts_break_off(start, tiny):
    process = start("generate", *tiny, *LONG, "hi", stdin=subprocess.DEVNULL)
    assert process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_an_interrupt_while_it_exits_changes_nothing(start, tiny):
    kill = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    run = f"{kill}from blendin_cli.__main__ import main\nmain()"
    line = [sys.executable, "-c", run, "generate", *tiny, "-q", "-m", "3", "hi"]
    told = prepared_python.run(line, input=b"")
    assert (told.returncode, told.stderr) == (0, b"")
    assert told.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(tiny, closed):
    """In a fresh process: Python must start, and import, without them."""
    line = f"exec {sys.executable} -m blendin_cli generate -q -m 3 hi {' '.join(tiny)} {closed}"
    told = subprocess.run(["sh", "-c", line], capture_output=True, timeout=DEADLINE_S)
    assert (told.returncode, told.stderr) == (0, b"")
    assert bool(told.stdout) == (">&-" not in closed)
