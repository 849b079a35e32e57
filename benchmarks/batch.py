"""Many prompts: answers side by side, and beginnings that are read once.

``rows`` (the default): tokens/s of 1 to 16 answers at once, as multiples of one answer at a time,
for the base alone and for the blend, on the shape-true pair (5, 15 and 30 % asked) and the demo
pair; beside mlx-lm's ``batch_generate`` with the base alone, as multiples of itself with one.

``beginnings``: many prompts with a common beginning, one ``blendin run`` against the ways without:

- ``run``: one process, what the prompts share is read once;
- ``separate prefills``: one process, every prompt read from its first token on;
- ``separate processes``: ``blendin generate`` once for each prompt.

    python benchmarks/batch.py --rounds 3
    python benchmarks/batch.py beginnings --rounds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from shapes import Script, prompt_of, shape_true_pair, words_of

from blendin_mlx.backend.mlx import mx
from blendin_mlx.batch.batch_decoder import BatchDecoder
from blendin_mlx.batch.batch_generation import BatchPrompt, batch_stream
from blendin_mlx.decoding.answer_options import AnswerOptions
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_models import load_pair
from timing import machine

SHARED = "Answer in one word. " + "The tide comes in and the tide goes out, and boats wait. " * 16
QUESTIONS = ("What comes in?", "What waits?", "What goes out?", "What is wet?", "Who waits?")
TOKENS = 4
OPTIONS = ("-q", "--draft", "off", "--max-tokens", str(TOKENS))

SIZES = (1, 2, 4, 8, 16)
ASKED = (0.05, 0.15, 0.30)
AGREEMENT = 0.7
PROMPT = 48  # tokens of the shape-true pair's prompts
TOPICS = ("eggs", "tides", "bread", "maps", "bees", "rain", "clocks", "glass")

Way = Callable[[], float]  # tokens per second


# Side by side


def one_at_a_time(pair: Pair, prompts: Sequence[PairPrompt], options: AnswerOptions) -> float:
    """Tokens per second of answers one after the other, without drafts."""
    cache, tokens = make_prompt_cache(pair), 0
    started = time.perf_counter()
    for prompt in prompts:
        *_, last = stream_generate(
            pair, prompt, method=options.method, max_tokens=options.max_tokens, prompt_cache=cache
        )
        tokens += last.statistics.completion_tokens
    return tokens / (time.perf_counter() - started)


def at_once(pair: Pair, prompts: Sequence[PairPrompt], options: AnswerOptions) -> float:
    """Tokens per second of answers side by side."""
    batch = BatchDecoder(pair)  # a new one each time: it remembers what it has read
    asked, tokens = [BatchPrompt(prompt, options) for prompt in prompts], 0
    started = time.perf_counter()
    for _, outcome in batch_stream(batch, asked, size=len(prompts)):
        if outcome.finish_reason:
            tokens += outcome.statistics.completion_tokens
    return tokens / (time.perf_counter() - started)


def by_mlx_lm(model: LanguageModel, prompts: Sequence[PairPrompt], max_tokens: int) -> float:
    """Tokens per second of mlx-lm's batches, the base alone."""
    from mlx_lm.generate import BatchGenerator

    ids = [list(prompt.base.ids) for prompt in prompts]
    stops = [[token] for token in model.stop_ids]
    generator = BatchGenerator(model.network, max_tokens=max_tokens, stop_tokens=stops)
    started, tokens = time.perf_counter(), 0
    generator.insert(ids)
    while responses := generator.next_generated():
        tokens += len(responses)
    generator.close()
    return tokens / (time.perf_counter() - started)


def ways(
    pair: Pair, name: str, method: str, prompts: Sequence[PairPrompt], tokens: int
) -> dict[tuple[str, int], Way]:
    """How some prompts can be answered, by a name and the number of answers at once."""
    options = AnswerOptions(method, max_tokens=tokens)
    found: dict[tuple[str, int], Way] = {
        (name, 0): partial(one_at_a_time, pair, prompts[:2], options)
    }
    for size in SIZES:
        found[name, size] = partial(at_once, pair, prompts[:size], options)
        if method == "base":
            key = name.replace("base", "mlx-lm"), size
            found[key] = partial(by_mlx_lm, pair.base, prompts[:size], tokens)
    return found


def rows(rounds: int, tokens: int) -> None:
    """Interleave all ways, and print the table."""
    demo = load_pair("demo")
    shaped = shape_true_pair(demo.aligned.tokenizer)
    words = words_of(shaped.base)
    same = [prompt_of(PROMPT + n, words[n:]) for n in range(max(SIZES))]
    questions = [
        build_prompt(demo, f"Tell me about {topic}{mark}") for mark in "!." for topic in TOPICS
    ]
    scripts = {f"shape blend {share:.0%}": Script(AGREEMENT, share) for share in ASKED}
    everything: list[tuple[Script | None, dict[tuple[str, int], Way]]] = [
        (Script(AGREEMENT, 0.0), ways(shaped, "shape base", "base", same, tokens)),
        *(
            (script, ways(shaped, name, "blendin", same, tokens))
            for name, script in scripts.items()
        ),
        (None, ways(demo, "demo base", "base", questions, tokens)),
        (None, ways(demo, "demo blend", "blendin", questions, tokens)),
    ]
    speeds: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number in range(rounds):
        print(f"round {number + 1}", file=sys.stderr)
        for script, some in everything:
            if script is not None:
                script.direct(shaped, words)
            for key, way in some.items():
                speeds[key].append(way())
    print(f"{rounds} rounds, {tokens} tokens an answer, medians; {machine()}\n")
    print(table({key: statistics.median(found) for key, found in speeds.items()}))
    print(f"\npeak memory of {max(SIZES)} answers: {memory(shaped, same, tokens)}")


def table(speeds: dict[tuple[str, int], float]) -> str:
    """A line for each kind of answer: tokens/s one at a time, and multiples of it."""
    lines = [
        "| answers at once | one at a time, tokens/s | " + " | ".join(map(str, SIZES)) + " |",
        "|---|---|" + "---|" * len(SIZES),
    ]
    for name in dict.fromkeys(name for name, _ in speeds):
        alone = speeds.get((name, 0), speeds[name, 1])
        multiples = " | ".join(f"{speeds[name, size] / alone:.2f}" for size in SIZES)
        lines.append(f"| {name} | {alone:.1f} | {multiples} |")
    return "\n".join(lines)


def memory(pair: Pair, prompts: Sequence[PairPrompt], tokens: int) -> str:
    """The peak against weights and caches of the answers."""
    weights = mx.get_active_memory()
    longest = max(len(prompt.base.ids) for prompt in prompts) + tokens
    caches = BatchDecoder(pair).bytes_per_token * longest * len(prompts)
    at_once(pair, prompts, AnswerOptions(max_tokens=tokens))
    peak: Any = mx.get_peak_memory()
    return f"{peak / (weights + caches):.2f} x (weights + caches of these tokens)"


# Beginnings


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


def beginnings(rounds: int) -> None:
    """Interleave the ways to answer prompts that begin alike, and print their medians."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["rows", "beginnings"], nargs="?", default="rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32, help="Of an answer, in rows.")
    arguments = parser.parse_args()
    if arguments.part == "rows":
        rows(arguments.rounds, arguments.tokens)
    else:
        beginnings(arguments.rounds)


if __name__ == "__main__":
    main()
