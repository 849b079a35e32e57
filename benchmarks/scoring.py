"""What scoring a text costs, beside one plain pass of each model over the same text.

A plain pass reads prompt and answer at once, without a cache, and takes the probability of each
token of the answer. Both are done for each of the first built-in examples of `blendin tune`, in
turns.

    python benchmarks/scoring.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from timing import machine

TAUS = (0.4, 1.0)


def plain(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> None:
    """One pass of a model, and the log-probabilities of the answer's tokens."""
    from blendin_mlx.backend.mlx import mx

    ids = mx.array([[*prompt, *answer]])
    logits = model.network(ids[:, :-1])[0, len(prompt) - 1 :]
    logits = logits.astype(mx.float32)
    chosen = mx.take_along_axis(logits, mx.array(answer)[:, None], axis=1)[:, 0]
    mx.eval(chosen - mx.logsumexp(logits, axis=1))


def both_plain(pair: Any, prompt: Any, answer: str) -> None:
    """The base and the guide, each in its own tokens."""
    for model, read in ((pair.base, prompt.base), (pair.aligned, prompt.aligned)):
        plain(model, read.ids, model.vocabulary.encode(answer))


def seconds(work: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work(*arguments, **options)
    return time.perf_counter() - started


def main() -> None:
    from blendin_cli.tune.examples import read_examples
    from blendin_mlx import build_prompt
    from blendin_mlx.blend.methods import make_method
    from blendin_mlx.scoring.score import score
    from blendin_models import load_pair

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=8)
    arguments = parser.parse_args()
    pair = load_pair("demo")
    examples = read_examples(None)[: arguments.examples]
    ratios: dict[float, list[float]] = {tau: [] for tau in TAUS}
    for _ in range(arguments.rounds):
        plain_s, score_s = 0.0, dict.fromkeys(TAUS, 0.0)
        for example in examples:
            asked = pair, build_prompt(pair, example.messages, base_template="examples")
            plain_s += seconds(both_plain, *asked, example.answer)
            for tau in TAUS:
                method = make_method("blendin", tau=tau)
                score_s[tau] += seconds(score, *asked, example.answer, method=method)
        for tau in TAUS:
            ratios[tau].append(score_s[tau] / plain_s)
    print(f"{arguments.rounds} rounds, {len(examples)} texts, medians; {machine()}\n")
    for tau, found in ratios.items():
        print(f"score at τ {tau:.1f} / a plain pass of each model  {statistics.median(found):.2f}")


if __name__ == "__main__":
    main()
