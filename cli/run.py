"""``blendin run``: answer many prompts, a JSON object per line in and out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from .errors import FAILURE, INTERRUPTED
from .line_answers import LineAnswers
from .options.extra import hint
from .options.groups import blend_options
from .options.settings import Settings
from .options.types import BatchSize
from .session import Session
from .terminal.output import Output, counted, say
from .terminal.quiet import quiet_option


class PromptFile(click.File):
    """A file of prompts; where there is none, the name of a pair is recognised."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> IO[bytes]:
        """Return the open file."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            if instead := hint("blendin chat", str(value)):
                self.fail(f"{instead}; run takes a file of prompts", param, ctx)
            raise


@click.command()
@click.argument("file", type=PromptFile("rb"), metavar="IN.jsonl")
@blend_options
@click.option(
    "--batch",
    type=BatchSize(),
    default="1",
    show_default=True,
    help="Write so many answers at once; auto goes by memory and by what a pass costs here.",
)
@click.option(
    "--resume-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="OUT.jsonl",
    help="Skip the lines that are answered in this file.",
)
@quiet_option
def run(
    file: IO[bytes], settings: Settings, batch: int | None, resume_from: Path | None, quiet: bool
) -> int:
    """Answer every line of IN.jsonl ("-" for standard input), in order.

    A line is an object with "prompt" or "messages", optionally an "id", and options by their long
    names: {"prompt": "Why is the sky blue?", "max_tokens": 64, "tau": 0.3}. Each is answered by an
    object as of generate --json. A bad line is answered by {"error": …}, and the exit code is 1 at
    the end. A common prefix of the prompts is read once.

    With --batch, answers are written side by side, each as it would be alone; they come out in the
    order of their lines. So many lines are read ahead, and nothing is drafted.

    \b
    Examples:
      blendin run prompts.jsonl > answers.jsonl
      blendin run --batch auto prompts.jsonl > answers.jsonl
      echo '{"prompt": "Say hello."}' | blendin run - | jq -r .text
      blendin run prompts.jsonl --resume-from answers.jsonl >> answers.jsonl
    """
    if batch != 1 and settings.prompt_cache is not None:
        raise click.UsageError("--prompt-cache cannot be used with --batch; leave one of them out")
    answered = _answered(resume_from) if resume_from else frozenset()
    if resume_from:
        _mend_end(resume_from)
    session = Session(settings, quiet)
    session.keep_beginning()
    lines = ((number, line) for number, line in _lines(file) if number not in answered)
    answers = LineAnswers(session, settings)
    results = answers.one_by_one(lines) if batch == 1 else answers.side_by_side(lines, batch)
    output = Output()
    done = failed = 0
    for number, result in results:
        done, failed = done + 1, failed + ("error" in result)
        if "error" in result:
            say(f"line {number}: {result['error']}")
        output.write(json.dumps({"line": number, **result}, ensure_ascii=False) + "\n")
    if answers.interrupted:
        return INTERRUPTED
    skipped = f", {len(answered)} answered before" if answered else ""
    say(f"{counted(done, 'line')}, {failed} failed{skipped}", quiet)
    return FAILURE if failed else 0


def _answered(file: Path) -> frozenset[int]:
    """Return the numbers of the lines that an earlier run answered to the end."""
    numbers = set()
    for line in file.read_bytes().splitlines():
        try:
            result = json.loads(line)
            done = "error" not in result and result["finish_reason"] != "interrupted"
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
