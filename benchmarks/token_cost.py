"""What a token costs: the output matrix kept in either order, beside mlx-lm with the base alone.

The base of the demo pair twice, its output matrix as it is stored ``[out, in]`` and as it is
multiplied ``[in, out]``; a token of each, an answer of the pair with each, and mlx-lm's tokens with
the base as it is stored. All in turns; medians of the ratios within a round.

    python benchmarks/token_cost.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from blendin_mlx.backend.mlx import mx, nn
from blendin_mlx.generation import generate
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.reading.context import Context
from blendin_models import load_pair
from timing import machine

TEXT = "The sea is blue because of the sky. " * 8
QUESTION = "Why is the sky blue?"
TOKENS = 16


def stored(model: LanguageModel) -> LanguageModel:
    """The model with its output matrix ``[out, in]``, all else shared."""
    network = load_pair("demo").base.network
    columns = network.model.embed_tokens
    rows = nn.Embedding(*columns.weight.shape)
    rows.weight = mx.contiguous(columns.weight)
    network.model.embed_tokens = rows
    return LanguageModel(network, model.tokenizer, model.config, model.name)


def a_token(model: LanguageModel) -> Callable[[], float]:
    """Seconds for a token, after some text."""
    context = Context(model)
    mx.eval(context.read(model.vocabulary.encode(TEXT)))

    def measured() -> float:
        started = time.perf_counter()
        for token in range(TOKENS):
            mx.eval(context.read([500 + token]))
        return (time.perf_counter() - started) / TOKENS

    return measured


def by_mlx_lm(model: LanguageModel) -> Callable[[], float]:
    """Seconds for a token of mlx-lm's own loop, after the same text."""
    from mlx_lm.generate import generate_step

    ids: Any = mx.array(model.vocabulary.encode(TEXT))

    def measured() -> float:
        steps = generate_step(ids, model.network, max_tokens=TOKENS + 1)
        next(steps)
        started = time.perf_counter()
        count = sum(1 for _ in steps)
        return (time.perf_counter() - started) / count

    return measured


def an_answer(pair: Pair) -> Callable[[], float]:
    """Seconds for an answer of the pair, its prompt included."""

    def measured() -> float:
        started = time.perf_counter()
        generate(pair, QUESTION, max_tokens=TOKENS, draft="off")
        return time.perf_counter() - started

    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    pair = load_pair("demo")
    before = stored(pair.base)
    ways = {
        "base, [out, in]": a_token(before),
        "base, [in, out]": a_token(pair.base),
        "mlx-lm, [out, in]": by_mlx_lm(before),
        "answer, [out, in]": an_answer(Pair(before, pair.aligned)),
        "answer, [in, out]": an_answer(pair),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(arguments.rounds + 1):
        for name, way in ways.items():
            taken = way()
            seconds[name] += [taken] if number else []  # the first round warms up
    print(f"{arguments.rounds} rounds, medians; {machine()}\n")
    for name, over in (
        ("base, [in, out]", "base, [out, in]"),
        ("base, [in, out]", "mlx-lm, [out, in]"),
        ("answer, [in, out]", "answer, [out, in]"),
    ):
        ratios = [a / b for a, b in zip(seconds[name], seconds[over], strict=True)]
        print(f"{name} / {over:<20} {statistics.median(ratios):.2f}")
    print()
    for name, found in seconds.items():
        print(f"{name:<20} {1000 * statistics.median(found):.0f} ms")


if __name__ == "__main__":
    main()
