"""Many prompts with a common beginning: one ``blendin run`` against the ways without it.

- ``run``: one process, what the prompts share is read once;
- ``separate prefills``: one process, every prompt read from its first token on;
- ``separate processes``: ``blendin generate`` once for each prompt.

    python benchmarks/batch.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict

from timing import machine

from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_models import load_pair

SHARED = "Answer in one word. " + "The tide comes in and the tide goes out, and boats wait. " * 16
QUESTIONS = ("What comes in?", "What waits?", "What goes out?", "What is wet?", "Who waits?")
TOKENS = 4
OPTIONS = ("-q", "--draft", "off", "--max-tokens", str(TOKENS))


def prompts() -> list[str]:
    return [f"{SHARED}\n\n{question}" for question in QUESTIONS]


def processes() -> float:
    """Seconds for one process per prompt, loading included."""
    started = time.perf_counter()
    for prompt in prompts():
        command = [sys.executable, "-m", "blendin_cli", "generate", *OPTIONS]
        subprocess.run(command, input=prompt.encode(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def run() -> float:
    """Seconds for one ``blendin run``, loading included."""
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts())
    command = [sys.executable, "-m", "blendin_cli", "run", *OPTIONS, "-"]
    started = time.perf_counter()
    subprocess.run(command, input=lines.encode(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def answers(pair: Pair, shared: bool) -> float:
    """Seconds for all prompts with loaded models, the caches kept or made anew."""
    cache = make_prompt_cache(pair)
    started = time.perf_counter()
    for prompt in prompts():
        cache = cache if shared else make_prompt_cache(pair)
        list(stream_generate(pair, prompt, max_tokens=TOKENS, prompt_cache=cache))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    pair = load_pair("demo")
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        print(f"round {number + 1}", file=sys.stderr)
        seconds["loaded, shared"].append(answers(pair, shared=True))
        seconds["loaded, separate prefills"].append(answers(pair, shared=False))
        seconds["blendin run"].append(run())
        seconds["separate processes"].append(processes())
    median = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"{rounds} rounds, {len(QUESTIONS)} prompts, medians; {machine()}\n")
    prefills = median["loaded, separate prefills"] / median["loaded, shared"]
    print(f"shared beginning / separate prefills     {prefills:.1f} x the prompts/s")
    loop = median["separate processes"] / median["blendin run"]
    print(f"blendin run / separate processes         {loop:.1f} x the prompts/s\n")
    for name, found in median.items():
        print(f"{name:<26} {len(QUESTIONS) / found:.2f} prompts/s")


if __name__ == "__main__":
    main()
