"""How long until the first token: a process from its start, models read from disk or from memory.

Cold: the files of both models are dropped from the page cache first. Warm: they were just read.
First: warm, the first command of a machine that has the models, but nothing else in its cache
folder, and no compiled kernels. Beside them mlx_lm with the base alone: warm and first with the
bare question, and warm with the whole prompt that our base reads, examples included. All in turns;
medians, the ratios first: of CPU seconds, which other work on the machine disturbs least, and of
seconds.

    python benchmarks/first_token.py --rounds 5
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from blendin_models import locate
from blendin_models.storage.paths import models_folder
from quality import TEMPLATE

PROMPT = "Why is the sky blue?"
COMPARED = (
    ("warm", "mlx_lm"),
    ("warm", "mlx_lm whole"),
    ("first", "mlx_lm first"),
    ("cold", "warm"),
    ("first", "warm"),
)
MODELS = ("gemma-3-270m", "smollm2-135m-instruct")


def forget(folders: list[Path]) -> None:
    """Drop the files of some folders from the page cache."""
    for file in (file for folder in folders for file in folder.iterdir() if file.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Taken(NamedTuple):
    """What a process took from its start to its end, after one token."""

    cpu: float
    seconds: float


def run(command: list[str], **variables: str) -> Taken:
    """Run a command with further environment variables."""
    started, before = time.perf_counter(), _cpu_seconds()
    environment = {**os.environ, **variables}
    subprocess.run(
        command, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environment
    )
    return Taken(_cpu_seconds() - before, time.perf_counter() - started)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_first(command: list[str]) -> Taken:
    """Run a command with a cache folder that has the models and nothing else, and without kernels.

    MLX keeps the kernels that it has compiled under TMPDIR, blendin in its cache folder.
    """
    with TemporaryDirectory() as home, TemporaryDirectory() as kernels:
        Path(home, "models").symlink_to(models_folder())
        return run(command, BLENDIN_HOME=home, TMPDIR=kernels)


def whole_prompt() -> str:
    """What the base of the pair reads of the question."""
    from blendin_mlx import build_prompt
    from blendin_models import PairSpec
    from blendin_models.pair import check_pair, open_pair

    pair = open_pair(check_pair(PairSpec(pair="demo")))  # no weight is read
    return build_prompt(pair, PROMPT, base_template=TEMPLATE).base.text


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    folders = [locate(name).folder for name in MODELS]
    blend = [sys.executable, "-m", "blendin_cli", "generate", "-q", "-m", "1", PROMPT]
    alone = [sys.executable, "-m", "mlx_lm", "generate", "--model", str(folders[0])]
    alone += ["--max-tokens", "1", "--ignore-chat-template", "--prompt"]
    whole = whole_prompt()
    found: dict[str, list[Taken]] = {
        name: [] for name in ("cold", "warm", "first", "mlx_lm", "mlx_lm whole", "mlx_lm first")
    }
    for _ in range(rounds):
        forget(folders)
        found["cold"].append(run(blend))
        found["warm"].append(run(blend))
        found["first"].append(run_first(blend))
        found["mlx_lm"].append(run([*alone, PROMPT]))
        found["mlx_lm whole"].append(run([*alone, whole]))
        found["mlx_lm first"].append(run_first([*alone, PROMPT]))
    median = {
        name: Taken(*map(statistics.median, zip(*all_, strict=True)))
        for name, all_ in found.items()
    }
    print("| | CPU s | s |\n|---|---|---|")
    for one, other in COMPARED:
        ratios = (a / b for a, b in zip(median[one], median[other], strict=True))
        print(f"| {one} / {other} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    for name, several in found.items():
        columns = (
            f"{statistics.median(c):.1f} ({min(c):.1f} to {max(c):.1f})"
            for c in zip(*several, strict=True)
        )
        print(f"| {name} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
