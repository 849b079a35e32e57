"""How long until the first token: a process from its start, models read from disk or from memory.

Cold: the files of both models are dropped from the page cache first. Warm: they were just read.
Beside them mlx_lm with the base alone. All in turns; medians, the ratios first.

    python benchmarks/first_token.py --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from blendin_models import locate

PROMPT = "Why is the sky blue?"
MODELS = ("gemma-3-270m", "smollm2-135m-instruct")


def forget(folders: list[Path]) -> None:
    """Drop the files of some folders from the page cache."""
    for file in (file for folder in folders for file in folder.iterdir() if file.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(command: list[str]) -> float:
    """From the start of a process to its end, after one token."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    folders = [locate(name).folder for name in MODELS]
    blend = [sys.executable, "-m", "blendin_cli", "generate", "-q", "-m", "1", PROMPT]
    alone = [sys.executable, "-m", "mlx_lm", "generate", "--model", str(folders[0])]
    alone += ["--max-tokens", "1", "--ignore-chat-template", "--prompt", PROMPT]
    found: dict[str, list[float]] = {"cold": [], "warm": [], "mlx_lm": []}
    for _ in range(rounds):
        forget(folders)
        found["cold"].append(seconds(blend))
        found["warm"].append(seconds(blend))
        found["mlx_lm"].append(seconds(alone))
    median = {name: statistics.median(values) for name, values in found.items()}
    print(f"| cold / warm | {median['cold'] / median['warm']:.2f} |")
    print("|---|---|")
    print(f"| warm / mlx_lm, base alone | {median['warm'] / median['mlx_lm']:.2f} |")
    for name, value in median.items():
        print(f"| {name}, s | {value:.1f} ({min(found[name]):.1f} to {max(found[name]):.1f}) |")


if __name__ == "__main__":
    main()
