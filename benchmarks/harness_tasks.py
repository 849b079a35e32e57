"""Write a folder of tasks for `blendin eval --include-path`, from question sets at hand.

OpenBookQA comes out of a wheel that has it (see question_sets.py); ARC-Challenge and PIQA from a
folder given as an argument, with lines {"question", "A", "B", …, "answer"}. Texts, options and
metrics are those of the harness's own tasks of these names.

    python benchmarks/harness_tasks.py tasks [--sets DIR]
    blendin eval --include-path tasks --tasks local_openbookqa --method aligned
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from question_sets import LETTERS, openbook_lines, text_of

QUESTION = "Question: {{question}}\\nAnswer:"
FILES = {"arc_challenge": "arc_challenge_test.jsonl", "piqa": "piqa_dev.jsonl"}
TASK = """\
task: local_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{text}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: "{{{{options}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""

Line = Mapping[str, Any]


def write_tasks(folder: Path, sets: Path | None) -> list[str]:
    """Write the tasks that there are questions for; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[str, Iterable[Line]]] = {
        "openbookqa": ("{{question}}", map(openbook_question, openbook_lines()))
    }
    for name, file in FILES.items() if sets is not None else ():
        found[name] = (QUESTION, lettered_questions(sets / file))
    for name, (text, questions) in found.items():
        _write_task(folder, name, text, questions)
    return [f"local_{name}" for name in found]


def _write_task(folder: Path, name: str, text: str, questions: Iterable[Line]) -> None:
    data = folder.resolve() / f"{name}.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in questions), "utf-8")
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data, text=text), "utf-8")


def openbook_question(line: Line) -> Line:
    """A question of the wheel, whose options are lines "A. …": without their letters."""
    options = line["options"].splitlines()
    return {
        "question": line["question"].strip(),
        "options": [option.partition(".")[2].strip() for option in options],
        "answer": options.index(line["answer"]),
    }


def lettered_questions(file: Path) -> list[Line]:
    """The questions of a file, but for a few that have lost their options on the way."""
    lines = map(json.loads, text_of(file).splitlines())
    return [lettered_question(line) for line in lines if line.get(line["answer"])]


def lettered_question(line: Line) -> Line:
    """A question whose options stand under their letters."""
    letters = [letter for letter in LETTERS if line.get(letter)]
    return {
        "question": line["question"],
        "options": [line[letter] for letter in letters],
        "answer": letters.index(line["answer"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", type=Path, help="where arc_challenge_test.jsonl and others are")
    given = parser.parse_args()
    print(",".join(write_tasks(given.folder, given.sets)))
