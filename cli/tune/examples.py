"""Prompts with good answers: the built-in ones, or those of a file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from ..diagnosis.command import numbered
from ..json_lines import Line, messages_of

UNNAMED = "other"


@dataclass(frozen=True)
class Example:
    """A prompt with a good answer.

    Attributes:
        line: of the file, from 1.
        messages: the conversation that is answered.
        answer: a whole answer.
        kind: what sort of question it is, in a word.
    """

    line: int
    messages: list[dict[str, str]]
    answer: str
    kind: str


def read_examples(file: Path | None) -> list[Example]:
    """Return the examples of a file, or the built-in ones.

    Raises:
        click.UsageError: lines that are none, by their numbers, or no examples at all.
        ValueError: the file is not UTF-8.
    """
    from blendin_mlx.input_text import decoded

    source: Any = files(__package__) / "examples.jsonl" if file is None else file
    lines = decoded(source.read_bytes(), str(file)).split("\n")
    found = [(n, _example(n, line)) for n, line in enumerate(lines, 1) if line.strip()]
    if bad := [number for number, example in found if example is None]:
        raise click.UsageError(
            f'{file}, {numbered(bad)}: not an object with a "prompt" or "messages" and an "answer"'
        )
    examples = [example for _, example in found if example is not None]
    if not examples:
        raise click.UsageError(f"{file} has no examples")
    return examples


def _example(number: int, line: str) -> Example | None:
    """Return the example of a line, None where it is not one."""
    from blendin_mlx.input_text import parsed_json

    try:
        given: Line = dict(parsed_json(line))
        messages, answer = messages_of(given), given["answer"]
        kind = given.get("kind", UNNAMED)
        (answer + kind).encode()
    except (ValueError, KeyError, TypeError):
        return None
    return Example(number, messages, answer, kind) if answer.strip() else None
