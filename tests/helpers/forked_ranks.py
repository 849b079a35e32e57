"""Ranks as forks of one process that has imported everything: a start costs a quarter of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn

from terminals import DEADLINE_S
from two_machines import Ended, free_port

IMPORTED = (
    *("blendin_cli.main", "blendin_models.split_base", "blendin_models.loading.loader"),
    *("blendin_mlx.distributed.split_base", "blendin_mlx.generation", "mlx_lm.models.llama"),
    "transformers.models.auto.tokenization_auto",
)


@dataclass
class Ranks:
    """Starts ranks of the command.

    Args:
        process: forks them.
    """

    process: subprocess.Popen[str]

    def __call__(
        self,
        folder: Path,
        *arguments: object,
        codes: Sequence[str] = ("", ""),
        stopped: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> list[Ended]:
        """Run the command on as many ranks as there are codes, to their ends.

        Args:
            folder: gets the file of hosts, and what the ranks write.
            arguments: of the command.
            codes: Python that each rank runs before; one alone is no rank.
            stopped: ranks that stop themselves, and are killed after the others have ended.
            environment: more variables.
        """
        hosts = folder / "hosts.json"
        hosts.write_text(json.dumps([[f"127.0.0.1:{free_port()}"] for _ in codes]))
        variables = {"MLX_HOSTFILE": str(hosts), "BLENDIN_MACHINES_TIMEOUT": str(DEADLINE_S)}
        line = [str(argument) for argument in arguments]
        asked = {
            "folder": str(folder),
            "arguments": line,
            "codes": codes,
            "stopped": stopped,
            "environment": (variables if len(codes) > 1 else {}) | dict(environment or {}),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        ends = json.loads(self.process.stdout.readline())
        return [
            Ended(line, end, *((folder / f"{rank}.{name}").read_bytes() for name in ("out", "err")))
            for rank, end in enumerate(ends)
        ]


@contextmanager
def forking() -> Iterator[Ranks]:
    """Context manager: what starts ranks."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "BLENDIN_GENERATE_DRAFT": "off"}
    with subprocess.Popen([sys.executable, __file__], env=environment, **pipes) as process:
        yield Ranks(process)


def import_all() -> None:
    """Import what the command imports, and compute nothing: threads do not survive a fork."""
    for name in IMPORTED:
        import_module(name)


def _serve(requests: IO[str]) -> None:
    """Fork the ranks of each request, and answer with their exit codes."""
    import_all()
    for line in requests:
        asked = json.loads(line)
        waiting, typing = os.pipe()  # as mlx.launch leaves it: open, and never ended
        if len(asked["codes"]) == 1:
            os.close(typing)
            typing = os.dup(waiting)
        started = [_fork(asked, rank, waiting, typing) for rank in range(len(asked["codes"]))]
        stopped = [started[rank] for rank in asked["stopped"]]
        moving = [one for one in started if one not in stopped]
        signal.signal(signal.SIGALRM, lambda *_, started=started: _kill(started))
        signal.alarm(DEADLINE_S)
        ends = _ends(moving)
        _kill(stopped)
        ends |= _ends(stopped)
        signal.alarm(0)
        os.close(waiting)
        os.close(typing)
        print(json.dumps([ends[one] for one in started]), flush=True)


def _ends(processes: Sequence[int]) -> dict[int, int]:
    """Wait for processes; return their exit codes."""
    return {one: os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in processes}


def _kill(processes: Sequence[int]) -> None:
    for one in processes:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _fork(asked: Mapping[str, Any], rank: int, waiting: int, typing: int) -> int:
    if child := os.fork():
        return child
    _become(asked, rank, waiting, typing)


def _become(asked: Mapping[str, Any], rank: int, waiting: int, typing: int) -> NoReturn:
    """Become the command on a rank."""
    from blendin_cli.main import main

    os.dup2(waiting, 0)
    os.close(waiting)
    os.close(typing)
    for number, name in enumerate(("out", "err"), start=1):
        with Path(asked["folder"], f"{rank}.{name}").open("wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.update(asked["environment"])
    if len(asked["codes"]) > 1:
        os.environ["MLX_RANK"] = str(rank)
    own: dict[str, object] = {}  # it stays as long as the command runs
    exec(asked["codes"][rank], own)
    main(asked["arguments"])
    raise AssertionError("main() does not return")


if __name__ == "__main__":
    _serve(sys.stdin)
