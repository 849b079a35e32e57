"""What blending costs on the demo pair: three programs in one interleaved run, medians and ratios.

- ``mlx_lm``: the base alone as a user of mlx-lm would run it: quantized, MLX's own BLAS;
- ``base``: ``blendin --method base``;
- ``blend``: both models.

Each round runs every program once, in a process of its own, because a process chooses its BLAS
once. The cost of blending is what a step takes beyond the models' own forward passes, which are
timed inside the same process, on the same prompt.

    make bench
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from timing import machine, overhead

QUESTION = "Give me three tips for sleeping well."
LONG = "Summarise this text.\n\n" + "The tide comes in and the tide goes out, and boats wait. " * 20
PROGRAMS = ("mlx_lm", "base", "blend")


def run_mlx_lm(tokens: int, folder: str) -> dict[str, Any]:
    """The base in mlx-lm: tokens/s and prefill tokens/s as it reports them."""
    from mlx_lm import load
    from mlx_lm.generate import stream_generate

    model, tokenizer = load(folder)
    result: dict[str, Any] = {}
    for name, prompt, count in (("decode", QUESTION, tokens), ("prefill", LONG, 2)):
        *_, last = stream_generate(model, tokenizer, prompt, max_tokens=count)
        result[name] = last.generation_tps if name == "decode" else last.prompt_tps
    return result


def run_blendin(tokens: int, method: str) -> dict[str, Any]:
    """The pair in this program, and how much of each step its forward passes took."""
    from blendin_mlx.generation import stream_generate
    from blendin_models import load_pair

    pair = load_pair("demo")
    options: dict[str, Any] = {"method": method, "stop_policy": "blend", "max_tokens": tokens}
    *_, long = stream_generate(pair, LONG, method="base", max_tokens=1)
    *_, last = stream_generate(pair, QUESTION, **options)
    return {
        "decode": last.statistics.tokens_per_s,
        "prefill": long.statistics.base_prompt_tokens / long.statistics.prefill_s,
        "overhead": overhead(pair, QUESTION, **options),
        "interventions": last.statistics.interventions,
        "tokens": last.statistics.completion_tokens,
        "passes": [last.statistics.base.passes, last.statistics.aligned.passes],
    }


def in_process(program: str, tokens: int) -> dict[str, Any]:
    """One program in a process of its own."""
    command = [sys.executable, __file__, "--one", program, "--tokens", str(tokens)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def one(program: str, tokens: int) -> dict[str, Any]:
    """Run a program here."""
    if program == "mlx_lm":
        from blendin_models.storage.paths import model_folder

        return run_mlx_lm(tokens, str(model_folder("gemma-3-270m")))
    return run_blendin(tokens, "base" if program == "base" else "blendin")


def report(rounds: list[dict[str, dict[str, Any]]], tokens: int) -> None:
    """Print ratios first, then medians."""
    median = {
        name: {
            key: statistics.median(r[name][key] for r in rounds)
            for key in rounds[0][name]
            if key != "passes"
        }
        for name in PROGRAMS
    }
    mlx, base, blend = (median[name] for name in PROGRAMS)
    print(f"{len(rounds)} rounds, {tokens} tokens, medians; {machine()}")
    print()
    print(f"blend / mlx_lm base alone, tokens/s      {blend['decode'] / mlx['decode']:.2f} x")
    print(f"blendin base / mlx_lm base, tokens/s     {base['decode'] / mlx['decode']:.2f} x")
    print(f"prefill, blendin / mlx_lm                {base['prefill'] / mlx['prefill']:.1f} x")
    print(f"overhead beyond forward passes, base     {base['overhead']:.1%}")
    print(f"overhead beyond forward passes, blend    {blend['overhead']:.1%}")
    print()
    print("| program | tokens/s | prefill tokens/s | base passes | aligned passes |")
    print("|---|---|---|---|---|")
    for name in PROGRAMS:
        row = median[name]
        passes = rounds[-1][name].get("passes", [tokens, 0])
        print(
            f"| {name} | {row['decode']:.2f} | {row['prefill']:.1f} | {passes[0]} | {passes[1]} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--one", choices=PROGRAMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.tokens)))
        return
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        rounds.append({name: in_process(name, arguments.tokens) for name in PROGRAMS})
    report(rounds, arguments.tokens)


if __name__ == "__main__":
    main()
