"""How the time of a token grows with the text: the blend beside the base alone in mlx-lm.

Small networks with random weights (see shapes.py), so that 2,048 tokens take a minute: 20 million
parameters guided by 5. All in one process, interleaved, medians over the rounds.

    python benchmarks/growth.py --rounds 3 --plot benchmarks/growth.png
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from shapes import GUIDE, Script, prompt_of, shape_true_pair, words_of

from blendin_mlx.backend.mlx import mx
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.drafting.pass_costs import Costs, measure
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_models import load_pair
from timing import machine

SMALL = {"hidden_size": 96, "num_hidden_layers": 4, "intermediate_size": 256,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
ANSWERS = (128, 256, 512, 1024, 2048)
PROMPTS = (64, 256, 1024, 4096)
WINDOW = 32  # tokens over which a time is taken
PROGRAMS = ("mlx_lm base", "blend", "blend with drafts")

Times = dict[tuple[str, str, int], list[float]]


def clocked(steps: Any) -> list[float]:
    """When each token came."""
    return [time.perf_counter() for _ in steps]


def tokens_of(pair: Pair, program: str, length: int, tokens: int, costs: Costs) -> list[float]:
    """When each token of an answer to a prompt of ``length`` tokens came."""
    from mlx_lm.generate import generate_step

    words = words_of(pair.base)
    prompt = prompt_of(length, words)
    if program == "mlx_lm base":
        return clocked(
            generate_step(mx.array(prompt.base.ids), pair.base.network, max_tokens=tokens)
        )
    drafter = Drafter("auto", costs=costs) if program == "blend with drafts" else "off"
    return clocked(
        stream_generate(pair, prompt, max_tokens=tokens, stop_policy="blend", draft=drafter)
    )


def window(times: list[float], end: int) -> float:
    """Seconds a token over the last tokens before ``end``."""
    return (times[end - 1] - times[end - 1 - WINDOW]) / WINDOW


def one_round(pair: Pair, costs: Costs, times: Times) -> None:
    """Every program once: one long answer, and short answers to longer and longer prompts."""
    for program in PROGRAMS:
        came = tokens_of(pair, program, PROMPTS[0], ANSWERS[-1], costs)
        for end in ANSWERS:
            times[program, "answer", end].append(window(came, end))
    for length in PROMPTS:
        for program in PROGRAMS:
            came = tokens_of(pair, program, length, WINDOW + 2, costs)
            times[program, "prompt", length].append(window(came, WINDOW + 1))


def memory() -> str:
    """The highest use on the demo pair, beside what its weights and caches hold."""
    from mlx.utils import tree_flatten

    pair = load_pair("demo")
    cache = make_prompt_cache(pair)
    *_, last = stream_generate(
        pair, "Why is the sky blue?", max_tokens=256, prompt_cache=cache, draft="guide"
    )
    weights = sum(
        array.nbytes
        for model in (pair.base, pair.aligned)
        for _, array in tree_flatten(model.network.parameters())
    )
    held = weights + cache.base.nbytes + cache.aligned.nbytes
    peak = last.statistics.peak_bytes
    return f"peak memory, demo pair: {peak / 1e9:.2f} GB, {peak / held:.3f} x weights and caches"


def report(times: Times) -> dict[tuple[str, str, int], float]:
    """Growth first, then milliseconds."""
    median = {key: statistics.median(found) for key, found in times.items()}
    for kind, lengths in (("answer", ANSWERS), ("prompt", PROMPTS)):
        print(f"time per token, {kind} of {lengths[-1]} tokens against one of {lengths[0]}:")
        for program in PROGRAMS:
            grown = median[program, kind, lengths[-1]] / median[program, kind, lengths[0]]
            print(f"  {program:<18} {grown:.2f} x")
        print(f"\n| {kind} of | " + " | ".join(f"{p}, ms a token" for p in PROGRAMS) + " |")
        print("|---" * (1 + len(PROGRAMS)) + "|")
        for length in lengths:
            row = (f"{1000 * median[program, kind, length]:.1f}" for program in PROGRAMS)
            print(f"| {length} | " + " | ".join(row) + " |")
        print()
    return median


def plot(median: dict[tuple[str, str, int], float], file: Path) -> None:
    """Both tables as curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (kind, lengths) in zip(axes, (("answer", ANSWERS), ("prompt", PROMPTS)), strict=True):
        for program, style in zip(PROGRAMS, ("o:", "s-", "^--"), strict=True):
            ax.plot(
                lengths, [1000 * median[program, kind, n] for n in lengths], style, label=program
            )
        ax.set_xscale("log", base=2)
        ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
        ax.set_xlabel(f"tokens of {kind}")
        ax.grid(alpha=0.3)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("ms a token")
    axes[0].legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="Draw the curves into this file.")
    arguments = parser.parse_args()
    print(f"{arguments.rounds} rounds, medians; {machine()}\n")
    pair = shape_true_pair(load_pair("demo").aligned.tokenizer, GUIDE, SMALL)
    Script(0.7, 0.15).direct(pair, words_of(pair.base))
    costs = measure(pair)
    times: Times = defaultdict(list)
    for number in range(arguments.rounds):
        print(f"round {number + 1}", file=sys.stderr)
        one_round(pair, costs, times)
    median = report(times)
    if arguments.plot:
        plot(median, arguments.plot)
    print(memory())


if __name__ == "__main__":
    main()
