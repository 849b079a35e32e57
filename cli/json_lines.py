"""Files of JSON lines: one object a line in, one a line out, each bad line by itself."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import click

from .errors import FAILURE
from .terminal.interrupts import Interrupt, interruptible
from .terminal.output import Output, counted, say

Line = dict[str, Any]
Numbered = Iterable[tuple[int, bytes]]  # lines and their numbers
Result = Callable[[Line, Interrupt, str], Line]
_ASKED = ("prompt", "messages")

resume_option = click.option(
    "--resume-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="OUT.jsonl",
    help="Skip the lines that are answered in this file.",
)


def each_line(
    file: IO[bytes],
    result: Result,
    is_done: Callable[[Line], bool],
    resume_from: Path | None,
    quiet: bool,
) -> int:
    """Write a result for each line of a file, one after the other; return the exit code.

    Args:
        file: a JSON object a line.
        result: makes the result of a line's object, its ``id`` apart. It is told what line that is,
            and notices an interrupt; what it raises about the line becomes its ``error``.
        is_done: whether a result of an earlier run needs no other one.
        resume_from: results of an earlier run.
        quiet: print no summary.
    """
    return each_result(file, partial(_one_by_one, result), is_done, resume_from, quiet)


def each_result(
    file: IO[bytes],
    results: Callable[[Numbered], Iterator[tuple[int, Line]]],
    is_done: Callable[[Line], bool],
    resume_from: Path | None,
    quiet: bool,
) -> int:
    """Write a result for each line of a file, in order; return the exit code.

    Args:
        file: a JSON object a line.
        results: makes results from numbered lines, each with its line's number, in order.
        is_done: whether a result of an earlier run needs no other one.
        resume_from: results of an earlier run.
        quiet: print no summary.
    """
    answered = _answered(resume_from, is_done) if resume_from else frozenset()
    if resume_from:
        _mend_end(resume_from)
    output = Output()
    done = failed = 0
    lines = ((number, line) for number, line in _lines(file) if number not in answered)
    for number, made in results(lines):
        done, failed = done + 1, failed + ("error" in made)
        if "error" in made:
            say(f"line {number}: {made['error']}")
        output.write(json.dumps({"line": number, **made}, ensure_ascii=False) + "\n")
    skipped = f", {len(answered)} answered before" if answered else ""
    say(f"{counted(done, 'line')}, {failed} failed{skipped}", quiet)
    return FAILURE if failed else 0


@dataclass
class LineResult:
    """The result of a line, while it is made.

    Attributes:
        fields: its ``id`` if it has one, and then what came of it.
        is_done: whether there is a result, or an error.
    """

    fields: Line = field(default_factory=dict)
    is_done: bool = False

    def begin(self, line: bytes) -> Line:
        """Return the object of a line without its ``id``, which is kept."""
        given = _parsed(line)
        if "id" in given:
            self.fields["id"] = given.pop("id")
        return given

    def finish(self, fields: Line) -> None:
        """Add what came of the line."""
        self.fields.update(fields)
        self.is_done = True

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Context manager: what is wrong with the line becomes its ``error``."""
        from blendin_mlx.errors import BlendinError

        try:
            yield
        except (ValueError, BlendinError) as error:
            self.finish({"error": str(error)})
        except click.ClickException as error:
            self.finish({"error": error.format_message()})


def _one_by_one(result: Result, lines: Numbered) -> Iterator[tuple[int, Line]]:
    """Yield the result of each line when it is made; Ctrl-C ends them after that."""
    for number, line in lines:
        made = LineResult()
        with interruptible() as interrupt, made.noting():
            made.finish(result(made.begin(line), interrupt, f"line {number}"))
        yield number, made.fields
        if interrupt.pressed:
            raise KeyboardInterrupt


def _answered(file: Path, is_done: Callable[[Line], bool]) -> frozenset[int]:
    """Return the numbers of the lines that an earlier run answered to the end."""
    numbers = set()
    for line in file.read_bytes().splitlines():
        try:
            result = json.loads(line)
            done = "error" not in result and is_done(result)
            numbers |= {int(result["line"])} if done else set()
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return frozenset(numbers)


def _mend_end(file: Path) -> None:
    """When appending to this file, truncate an incomplete last line."""
    stdout = sys.__stdout__.fileno() if sys.__stdout__ else -1
    if stdout < 0 or not os.path.samestat(os.fstat(stdout), file.stat()):
        return
    content = file.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, 1):  # whatever a line holds, the next one is answered
        if line.strip():
            yield number, line


def _parsed(line: bytes) -> Line:
    from blendin_mlx.input_text import decoded, parsed_json

    try:
        given = parsed_json(decoded(line, "the line"))
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(given, dict):
        return given
    raise ValueError("not a JSON object")


def messages_of(given: Line) -> list[dict[str, str]]:
    """Return the conversation of a line, and remove it from the line.

    A message's content is a text, or a list of texts as {"type": "text", "text": …}.
    """
    prompt, messages = given.pop("prompt", None), given.pop("messages", None)
    if (prompt is None) == (messages is None):
        raise ValueError(f'a line needs either "prompt" or "messages"{meant(given, *_ASKED)}')
    if prompt is not None:
        if not isinstance(prompt, str):
            raise ValueError('"prompt" must be a string')
        return [{"role": "user", "content": prompt}]
    read: list[Any] = list(map(_with_text, messages)) if isinstance(messages, list) else [None]
    if not all(map(_is_message, read)):
        raise ValueError('"messages" must be a list of {"role": …, "content": …}')
    return read


def meant(given: Line, *keys: str) -> str:
    """Return a hint at a key of a line that is nearly one of those that it may have."""
    for key in given:
        if near := difflib.get_close_matches(key, keys, n=1):
            return f'; did you mean "{near[0]}" by "{key}"?'
    return ""


def _with_text(message: Any) -> Any:
    """Return a message with the texts of its content joined, if that is a list of them."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    if other := [part for part in content if not _is_text(part)]:
        raise ValueError(f"a content has a part that is not text: {other[0]!s:.60}")
    return {**message, "content": "".join(part["text"] for part in content)}


def _is_text(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") != "text":
        return False
    return isinstance(part.get("text"), str)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) for key in ("role", "content")
    )
