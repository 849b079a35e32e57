"""Files that options name: checked first, written beside, renamed; devices and links stay."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from blendin_cli.terminal.files import Target, write_whole
from blendin_mlx.trace.records import TraceWriter
from commands import DEADLINE_S

OLD = "what was there\n"


@pytest.fixture
def old(tmp_path):
    """A trace of an earlier run."""
    file = tmp_path / "run.jsonl"
    file.write_text(OLD)
    file.chmod(0o640)
    return file


@pytest.mark.parametrize(
    "wrong",
    [
        ("--base", "no/such-folder/here", "--aligned", "x"),
        ("--pair", "nonesuch"),
        ("--method", "base", "--tau", "0.3"),
    ],
    ids=lambda wrong: wrong[0],
)
def test_a_mistake_does_not_cost_the_old_trace(run, old, wrong):
    result = run("generate", *wrong, "--trace", old, "hi")
    assert result.code != 0
    result.error()
    assert old.read_text() == OLD


def test_a_prompt_that_cannot_be_answered_does_not_cost_it_either(run, tiny, old):
    assert run("generate", *tiny, "--trace", old, "a b " * 9000).code == 2
    assert old.read_text() == OLD


def test_a_new_trace_takes_the_place_of_the_old_one(run, tiny, old):
    assert run("generate", *tiny, "-qm", 2, "--trace", old, "hi").code == 0
    assert [json.loads(line)["type"] for line in old.read_text().splitlines()][-1] == "end"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert list(old.parent.iterdir()) == [old]


def test_steps_before_an_error_are_kept_in_the_trace(run, tiny, old, monkeypatch):
    def failing(self, piece):
        if piece.step.index == 2:
            raise RuntimeError("in the middle")
        written(self, piece)

    written = TraceWriter.step
    monkeypatch.setattr(TraceWriter, "step", failing)
    assert run("generate", *tiny, "-qm", 9, "--trace", old, "hi").code == 1
    types = [json.loads(line)["type"] for line in old.read_text().splitlines()]
    assert types == ["run", "step", "step"]
    assert list(old.parent.iterdir()) == [old]


def test_a_link_stays_a_link(run, tiny, old, tmp_path):
    link = tmp_path / "link.jsonl"
    link.symlink_to(old)
    assert run("generate", *tiny, "-qm", 2, "--trace", link, "hi").code == 0
    assert link.is_symlink()
    assert '"end"' in old.read_text()


def test_a_trace_goes_to_standard_output(start, tiny):
    process = start("generate", *tiny, "-qm", 2, "--trace", "/dev/stdout", "hi")
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b'{"type": "run"')
    assert b'{"type": "end"' in out


def test_a_trace_goes_into_a_pipe_of_the_shell(start, tiny, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    process = start("generate", *tiny, "-qm", 2, "--trace", fifo, "hi", stdin=subprocess.DEVNULL)
    _, err = process.communicate(timeout=DEADLINE_S)
    reader.join(DEADLINE_S)
    assert (process.returncode, err) == (0, b"")
    assert json.loads(read[0].splitlines()[-1])["type"] == "end"
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_device_is_written_to_and_stays(run, tiny):
    assert run("generate", *tiny, "-qm", 2, "--trace", "/dev/null", "hi").code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_file_that_cannot_be_begun_leaves_the_old_one(old, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_whole(old, "new", "--html")
    assert old.read_text() == OLD
    assert list(old.parent.iterdir()) == [old]


def test_a_planted_link_beside_is_not_followed(old, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text(OLD)
    (tmp_path / f".run.jsonl.{os.getpid()}.part").symlink_to(precious)
    with pytest.raises(FileExistsError), Target(old, "--trace") as file:
        file.write("new")
    assert (precious.read_text(), old.read_text()) == (OLD, OLD)


def test_a_conversation_replaces_no_device_and_follows_no_link(run, tiny, old, tmp_path):
    fifo, link = tmp_path / "fifo", tmp_path / "link.json"
    os.mkfifo(fifo)
    link.symlink_to(old)
    lines = f"/save {fifo}\n/save {link}\n/save {tmp_path}/talk.json\n"
    result = run("chat", *tiny, "-qm", 2, stdin=lines.encode())
    first, second, third = result.err.splitlines()
    assert f"{fifo} cannot be written: it is a device or pipe" in first
    assert f"{link} cannot be written: it is a link" in second
    assert "saved to" in third
    assert old.read_text() == OLD
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert link.is_symlink()


@pytest.mark.parametrize("option", ["prompt_cache", "trace"])
def test_no_settings_file_names_a_file_to_write(run, tiny, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blendin.toml").write_text(f'[generate]\n{option} = "precious.txt"\n')
    result = run("generate", *tiny, "-m", 1, "hi")
    assert result.code == 2
    assert f"{option!r} names a file to write; pass it on the command line" in result.error()
    assert not (tmp_path / "precious.txt").exists()


def test_a_prompt_cache_is_no_device_or_pipe(run, tiny, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    result = run("generate", *tiny, "--prompt-cache", fifo, "hi")
    assert (result.code, "is not a regular file" in result.error()) == (2, True)
