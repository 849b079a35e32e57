"""Ranks of the command as forks of a process that has imported everything."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from prepared_python import Fork
from terminals import DEADLINE_S, command
from two_machines import Ended, free_port


def run_ranks(
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
    line = [str(argument) for argument in arguments]
    with ExitStack() as ending:
        waiting = ending.enter_context(_input(never_ended=len(codes) > 1))
        ranks = []
        for rank, variables in enumerate(_variables(folder, len(codes))):
            more = {"env": {**variables, **(environment or {})}, "stdin": waiting}
            process = _begin(folder / str(rank), command(line, codes[rank]), more)
            ranks.append(process)
            ending.callback(process.wait, DEADLINE_S)
            ending.callback(process.kill)
        for rank, process in enumerate(ranks):
            if rank not in stopped:
                process.wait(DEADLINE_S)
    return [_ended(folder / str(rank), process) for rank, process in enumerate(ranks)]


@contextmanager
def _input(never_ended: bool) -> Iterator[IO[bytes]]:
    """Context manager: a standard input as ``mlx.launch`` leaves it, or one that has ended."""
    waiting, typing = os.pipe()
    with open(waiting, "rb") as reading, open(typing, "wb") as writing:
        if not never_ended:
            writing.close()
        yield reading


def _variables(folder: Path, ranks: int) -> list[dict[str, str]]:
    """Return the environment of each rank."""
    plain = {**os.environ, "HF_HUB_OFFLINE": "1", "BLENDIN_GENERATE_DRAFT": "off"}
    if ranks == 1:
        return [plain]
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{free_port()}"] for _ in range(ranks)]))
    shared = {"MLX_HOSTFILE": str(hosts), "BLENDIN_MACHINES_TIMEOUT": str(DEADLINE_S)}
    return [{**plain, **shared, "MLX_RANK": str(rank)} for rank in range(ranks)]


def _begin(
    written: Path, line: Sequence[str | bytes], options: Mapping[str, Any]
) -> subprocess.Popen[bytes]:
    with (
        written.with_suffix(".out").open("wb") as out,
        written.with_suffix(".err").open("wb") as err,
    ):
        return Fork(line, stdout=out, stderr=err, **options)


def _ended(written: Path, process: subprocess.Popen[bytes]) -> Ended:
    texts = (written.with_suffix(suffix).read_bytes() for suffix in (".out", ".err"))
    return Ended(process.args, process.returncode, *texts)
