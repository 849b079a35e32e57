"""Blending with drafts against the base alone, mlx-lm and the authors' loop, interleaved.

Every round runs every program once, one after the other, in one process; medians over the rounds.

    python benchmarks/speed.py --rounds 5 --tokens 48
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from typing import Any

from shapes import Script, prompt_of, shape_true_pair, words_of

from blendin_mlx.backend.mlx import mx
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.drafting.pass_costs import Costs, measure
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_models import load_pair
from timing import machine, overhead

AGREEMENTS = (0.5, 0.7, 0.9)
UNSURE = (0.05, 0.15, 0.30)
PROMPT_TOKENS = 32
MLX_DRAFT = 4  # tokens drafted at once by mlx-lm's speculative decoding
LENGTHS = (64, 128, 256, 512)
QUESTION = "Give me three tips for sleeping well."

Seconds = dict[Any, list[float]]


def ours(pair: Pair, prompt: PairPrompt, tokens: int, method: str, costs: Costs | None) -> float:
    """Tokens/s of this program; with costs, drafting is left to it."""
    drafter = Drafter("auto", costs=costs) if costs else Drafter("off")
    *_, last = stream_generate(
        pair, prompt, method=method, max_tokens=tokens, stop_policy="blend", draft=drafter
    )
    return last.statistics.tokens_per_s


def mlx_lm_base(model: LanguageModel, ids: tuple[int, ...], tokens: int) -> float:
    """Tokens/s of mlx-lm with the base alone: the same weights, the same BLAS."""
    from mlx_lm.generate import generate_step

    return _rate(generate_step(mx.array(ids), model.network, max_tokens=tokens))


def mlx_lm_speculative(pair: Pair, ids: tuple[int, ...], tokens: int) -> float:
    """Tokens/s of mlx-lm's speculative decoding of the base, the guide as its draft model."""
    import importlib

    steps = importlib.import_module("mlx_lm.generate").speculative_generate_step(
        mx.array(ids),
        pair.base.network,
        pair.aligned.network,
        num_draft_tokens=MLX_DRAFT,
        max_tokens=tokens,
    )
    return _rate(steps)


def _rate(steps: Any) -> float:
    next(steps)  # the first token comes with the prompt
    started = time.perf_counter()
    count = sum(1 for _ in steps)
    return count / (time.perf_counter() - started)


def authors_step(pair: Pair, ids: tuple[int, ...]) -> float:
    """Seconds of one token as the authors' program makes it: both models read everything anew."""
    started = time.perf_counter()
    for model in (pair.base, pair.aligned):
        network = model.network
        hidden = network.model(mx.array([ids]))[:, -1:]  # a server computes the last row only
        logits = network.model.embed_tokens.as_linear(hidden)
        mx.eval(network.say(logits, slice(len(ids) - 1, len(ids))))
    return time.perf_counter() - started


def grid_round(pair: Pair, words: Any, tokens: int, costs: Costs, rates: Seconds) -> None:
    """Every program once on the shape-true pair."""
    prompt = prompt_of(PROMPT_TOKENS, words)
    Script(1.0, 0.0).direct(pair, words)
    rates["base"].append(ours(pair, prompt, tokens, "base", None))
    rates["mlx_lm base"].append(mlx_lm_base(pair.base, prompt.base.ids, tokens))
    for agreement, unsure in product(AGREEMENTS, UNSURE):
        Script(agreement, unsure).direct(pair, words)
        cell = agreement, unsure
        rates["plain", cell].append(ours(pair, prompt, tokens, "blendin", None))
        rates["draft", cell].append(ours(pair, prompt, tokens, "blendin", costs))
        if unsure == UNSURE[0]:
            rates["mlx_lm spec", agreement].append(
                mlx_lm_speculative(pair, prompt.base.ids, tokens)
            )


def lengths_round(pair: Pair, words: Any, costs: Costs, seconds: Seconds) -> None:
    """A token at several lengths of text: the authors' way, plain and with drafts."""
    Script(0.7, 0.15).direct(pair, words)
    for length in LENGTHS:
        prompt = prompt_of(length, words)
        seconds["authors", length].append(authors_step(pair, prompt.base.ids))
        for name, given in (("plain", None), ("draft", costs)):
            seconds[name, length].append(1 / ours(pair, prompt, 16, "blendin", given))


def real_round(pair: Pair, tokens: int, costs: Costs, rates: Seconds) -> None:
    """A real pair on a real question."""
    prompt = build_prompt(pair, QUESTION)
    rates["base"].append(ours(pair, prompt, tokens, "base", None))
    rates["plain"].append(ours(pair, prompt, tokens, "blendin", None))
    rates["draft"].append(ours(pair, prompt, tokens, "blendin", costs))
    rates["mlx_lm base"].append(mlx_lm_base(pair.base, prompt.base.ids, tokens))
    if pair.projection().identity:
        rates["mlx_lm spec"].append(mlx_lm_speculative(pair, prompt.base.ids, tokens))


def guided_by_itself(bits: int = 4) -> Pair:
    """SmolLM2-135M-Instruct in float32, guided by what is left of it at 4 bits.

    On a CPU, where quantized products are slow, the guide is dequantized again: its passes then
    cost what the base's do, and no draft of it can pay.
    """
    import mlx.nn as nn
    from mlx_lm.utils import dequantize_model

    from blendin_mlx.backend.mlx import is_cpu

    base, guide = (load_pair("demo").aligned for _ in range(2))
    nn.quantize(guide.network, group_size=32, bits=bits)
    if is_cpu():
        guide.network.set_dtype(mx.float32)
        dequantize_model(guide.network)
    mx.eval(guide.network.parameters())
    guide.name = f"{guide.name} at {bits} bits"
    return Pair(base, guide)


def median(values: Seconds) -> dict[Any, float]:
    return {key: statistics.median(found) for key, found in values.items()}


def report_grid(rates: Seconds, costs: Costs) -> None:
    """Ratios first, then what they are made of."""
    rate = median(rates)
    base = rate["base"]
    cells = list(product(AGREEMENTS, UNSURE))
    worst = min(rate["draft", cell] / rate["plain", cell] for cell in cells)
    target = rate["draft", (0.7, 0.15)] / base
    print(f"draft / base alone at agreement 0.7, unsure 15 %    {target:.2f} x")
    print(f"draft / plain blending, the worst of the grid       {worst:.2f} x")
    print(f"base alone / mlx_lm base alone                      {base / rate['mlx_lm base']:.2f} x")
    print(f"costs: a 5-token pass {costs.verify(4):.2f}, the guide {costs.ask:.2f} base passes")
    print()
    print("Tokens/s as multiples of the base alone; draft / plain is the ratio of the two.\n")
    print("| agreement | unsure | draft | plain | draft / plain | mlx_lm speculative |")
    print("|---|---|---|---|---|---|")
    for agreement, unsure in cells:
        plain, draft = rate["plain", (agreement, unsure)], rate["draft", (agreement, unsure)]
        print(
            f"| {agreement} | {unsure:.0%} | {draft / base:.2f} | {plain / base:.2f} "
            f"| {draft / plain:.2f} | {rate['mlx_lm spec', agreement] / base:.2f} |"
        )
    print(f"\nbase alone {base:.2f} tokens/s, mlx_lm {rate['mlx_lm base']:.2f} tokens/s\n")


def report_lengths(seconds: Seconds) -> None:
    second = median(seconds)
    print("| tokens of text | authors / plain | authors / draft | authors, s a token |")
    print("|---|---|---|---|")
    for length in LENGTHS:
        authors = second["authors", length]
        print(
            f"| {length} | {authors / second['plain', length]:.1f} x "
            f"| {authors / second['draft', length]:.1f} x | {authors:.2f} |"
        )
    print()


def report_real(name: str, rates: Seconds, costs: Costs) -> None:
    rate = median(rates)
    base = rate.pop("base")
    ratios = ", ".join(f"{key} {value / base:.2f} x" for key, value in rate.items())
    print(f"{name}: {ratios} the base alone ({base:.2f} tokens/s); the guide costs {costs.ask:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--only", choices=("grid", "lengths", "real"))
    arguments = parser.parse_args()
    print(f"{arguments.rounds} rounds, {arguments.tokens} tokens, medians; {machine()}\n")
    parts: dict[str, Callable[[int, int], None]] = {
        "grid": run_grid, "lengths": run_lengths, "real": run_real,
    }  # fmt: skip
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(arguments.rounds, arguments.tokens)


def run_grid(rounds: int, tokens: int) -> None:
    """The shape-true pair over the grid, and what plain blending costs beyond its passes."""
    pair = shape_true_pair(load_pair("demo").aligned.tokenizer)
    words, costs = words_of(pair.base), measure(pair)
    rates: Seconds = defaultdict(list)
    beyond = []
    for number in range(rounds):
        print(f"grid, round {number + 1}", file=sys.stderr)
        grid_round(pair, words, tokens, costs, rates)
        Script(0.7, 0.15).direct(pair, words)
        prompt = prompt_of(PROMPT_TOKENS, words)
        beyond.append(overhead(pair, prompt, max_tokens=tokens, stop_policy="blend"))
    report_grid(rates, costs)
    print(f"plain blending beyond its forward passes: {statistics.median(beyond):.1%}\n")


def run_lengths(rounds: int, tokens: int) -> None:
    """The shape-true pair over lengths of text."""
    pair = shape_true_pair(load_pair("demo").aligned.tokenizer)
    words, costs = words_of(pair.base), measure(pair)
    seconds: Seconds = defaultdict(list)
    for number in range(rounds):
        print(f"lengths, round {number + 1}", file=sys.stderr)
        lengths_round(pair, words, costs, seconds)
    report_lengths(seconds)


def run_real(rounds: int, tokens: int) -> None:
    """Real weights."""
    pairs = {"demo pair": load_pair("demo"), "SmolLM2 by itself at 4 bits": guided_by_itself()}
    costs = {name: measure(pair) for name, pair in pairs.items()}
    rates: dict[str, Seconds] = {name: defaultdict(list) for name in pairs}
    for number in range(rounds):
        print(f"real pairs, round {number + 1}", file=sys.stderr)
        for name, pair in pairs.items():
            real_round(pair, tokens, costs[name], rates[name])
    for name in pairs:
        report_real(name, rates[name], costs[name])


if __name__ == "__main__":
    main()
