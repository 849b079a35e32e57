"""The command in this process, the command as a process, and models small enough for both."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prepared_python
from blendin_cli.main import main
from blendin_models.catalogue import entries
from commands import Result
from tiny_folders import write_model

Run = Callable[..., Result]


class _Input(io.TextIOWrapper):
    def __init__(self, data: bytes, terminal: bool) -> None:
        super().__init__(io.BytesIO(data))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """``run("generate", "hi", stdin=b"")``: the command in this process."""

    def command(*arguments: object, stdin: bytes = b"", terminal: bool = False) -> Result:
        monkeypatch.setattr(sys, "stdin", _Input(stdin, terminal))
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        assert isinstance(leaving.value.code, int)
        return Result(leaving.value.code, out, err.decode())

    return command


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options that name a pair of tiny models: ``run("generate", *tiny, "hi")``."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder / "base", 1, chat_template=False)
    write_model(folder / "aligned", 2)
    return ("--base", str(folder / "base"), "--aligned", str(folder / "aligned"))


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder where tiny models stand in for those of the demo pair.

    Loading the real ones takes many times as long as all that a command does with them.
    """
    home = tmp_path_factory.mktemp("home")
    base, aligned = (model.name for model in entries.find_pair("demo").models)
    write_model(home / "models" / base, 1, chat_template=False)
    write_model(home / "models" / aligned, 2)
    return home


@pytest.fixture(autouse=True)
def no_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether drafting pays is measured, so what is said of it differs from run to run."""
    for command in ("GENERATE", "CHAT", "RUN"):
        monkeypatch.setenv(f"BLENDIN_{command}_DRAFT", "off")


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """``start("generate", "hi", **popen_options)``: the command as a process of its own.

    It is a fork; with ``fresh=True`` it imports all by itself.
    """
    started: list[subprocess.Popen[bytes]] = []

    def command(*arguments: object, fresh: bool = False, **options: Any) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "blendin_cli", *map(str, arguments)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONUNBUFFERED", None)  # buffers are what goes wrong at an exit
        settings = {"env": environment, **pipes, **options}
        process = prepared_python.begin(line, fresh=fresh, **settings)
        started.append(process)
        return process

    yield command
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
