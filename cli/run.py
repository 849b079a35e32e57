"""``blendin run``: many prompts, one JSON object a line in, one a line out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from .json_lines import Line, LineResult, each_line, each_result, messages_of, resume_option
from .options.extra import hint
from .options.groups import batch_option, blend_options, shard_option
from .options.override import overridden
from .options.settings import Settings
from .session import Session
from .side_by_side import SideBySide, check_batch
from .terminal.interrupts import Interrupt, interruptible, unswallowed_interrupt
from .terminal.quiet import quiet_option
from .whole_answers import whole_answer

if TYPE_CHECKING:
    from blendin_mlx.batch.batch_generation import BatchPrompt


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
@shard_option
@batch_option("1")
@resume_option
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
    check_batch(settings, batch)
    session = Session(settings, quiet)
    session.keep_beginning()

    def begin(given: Line) -> list[dict[str, str]]:
        messages = messages_of(given)
        session.configure(overridden(settings, given))
        return messages

    def result(given: Line, should_stop: Interrupt, what: str) -> Line:
        return session.result(whole_answer(session, begin(given), should_stop, what)[-1])

    if batch == 1:
        return each_line(file, result, _is_done, resume_from, quiet)
    results = partial(_side_by_side, session, begin, batch)
    return each_result(file, results, _is_done, resume_from, quiet)


def _is_done(result: Line) -> bool:
    return bool(result["finish_reason"] != "interrupted")


def _side_by_side(
    session: Session,
    begin: Callable[[Line], list[dict[str, str]]],
    size: int | None,
    lines: Iterable[tuple[int, bytes]],
) -> Iterator[tuple[int, Line]]:
    """Answer several lines at once; yield each result as soon as its turn has come."""
    from blendin_mlx.errors import BlendinError

    several = SideBySide(session, size)
    waiting: dict[int, LineResult] = {}  # by line, of all lines begun and not yielded yet
    asked: dict[int, tuple[LineResult, int | None]] = {}  # by prompt, with its answer's seed

    def prompts() -> Iterator[BatchPrompt]:
        numbers = count()
        for number, line in _breaking_off(lines):
            result = waiting[number] = LineResult()
            with result.noting():
                prompt = several.prompt(begin(result.begin(line)))
                asked[next(numbers)] = result, prompt.seed
                yield prompt

    def ready() -> Iterator[tuple[int, Line]]:
        while (number := next(iter(waiting), None)) and waiting[number].is_done:
            yield number, waiting.pop(number).fields

    with interruptible() as interrupt:
        for index, outcome in several.answer(prompts(), interrupt):
            if isinstance(outcome, BlendinError):
                asked.pop(index)[0].finish({"error": str(outcome)})
            elif outcome.finish_reason:
                result, seed = asked.pop(index)
                result.finish({**session.result(outcome), "seed": seed})
            yield from ready()
        yield from ready()
    if interrupt.pressed:
        raise KeyboardInterrupt


def _breaking_off(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield lines; while one is waited for, Ctrl-C breaks off at once."""
    coming = iter(lines)
    while True:
        with unswallowed_interrupt():
            line = next(coming, None)
        if line is None:
            return
        yield line
