"""``blendin run``: answer many prompts, a JSON object per line in and out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from .errors import FAILURE, INTERRUPTED
from .options.groups import blend_options
from .options.override import overridden
from .options.settings import Settings
from .options.types import BatchSize
from .session import Session
from .side_by_side import SideBySide
from .terminal.interrupts import interruptible, unswallowed_interrupt
from .terminal.output import Output, counted, say
from .terminal.quiet import quiet_option

if TYPE_CHECKING:
    from blendin_mlx.batch.batch_generation import BatchPrompt

Numbered = tuple[int, dict[str, Any]]  # a line's number, and its result object


@click.command()
@click.argument("file", type=click.File("rb"), metavar="IN.jsonl")
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
    answers = _Answers(session, settings)
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
    say(f"{counted(done, 'line')}, {failed} of them bad{skipped}", quiet)
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


class _Answers:
    """The results of lines, in their order.

    Attributes:
        interrupted: Ctrl-C was pressed; results end with it.
    """

    def __init__(self, session: Session, settings: Settings) -> None:
        self.interrupted = False
        self._session = session
        self._settings = settings

    def one_by_one(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Numbered]:
        """Answer each line when the one before it has been answered."""
        for number, line in lines:
            with interruptible() as interrupt:
                yield number, self._answer(line, interrupt)
            if interrupt.pressed:
                self.interrupted = True
                return

    def _answer(self, line: bytes, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Return the result object of a line, or what is wrong with it."""
        result = _Result()
        with result.noting():
            *_, last = self._session.answer(self._begin(line, result), should_stop)
            result.finish(self._session.result(last))
        return result.fields

    def _begin(self, line: bytes, result: _Result) -> list[dict[str, str]]:
        """Go on with the settings of a line; return its conversation, and keep its id."""
        given = _parsed(line)
        if "id" in given:
            result.fields["id"] = given.pop("id")
        messages = _messages(given)
        self._session.configure(overridden(self._settings, given))
        return messages

    def side_by_side(
        self, lines: Iterable[tuple[int, bytes]], size: int | None
    ) -> Iterator[Numbered]:
        """Answer several lines at once; give each result as soon as its turn has come."""
        from blendin_mlx.errors import BlendinError

        several = SideBySide(self._session, size)
        waiting: dict[int, _Result] = {}  # by line, of all lines begun and not given yet
        asked: list[tuple[_Result, int | None]] = []  # by prompt, with the seed of its answer

        def prompts() -> Iterator[BatchPrompt]:
            for number, line in _breaking_off(lines):
                result = waiting[number] = _Result()
                with result.noting():
                    prompt = several.prompt(self._begin(line, result))
                    asked.append((result, prompt.seed))
                    yield prompt

        def ready() -> Iterator[Numbered]:
            while (number := next(iter(waiting), None)) and waiting[number].is_done:
                yield number, waiting.pop(number).fields

        with interruptible() as interrupt:
            for index, outcome in several.answer(prompts(), interrupt):
                result, seed = asked[index]
                if isinstance(outcome, BlendinError):
                    result.fail(str(outcome))
                elif outcome.finish_reason:
                    result.finish({**self._session.result(outcome), "seed": seed})
                yield from ready()
            yield from ready()
        self.interrupted = interrupt.pressed


@dataclass
class _Result:
    """The result object of a line, while it is made."""

    fields: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False

    def finish(self, fields: dict[str, Any]) -> None:
        """Add what came of it."""
        self.fields.update(fields)
        self.is_done = True

    def fail(self, message: str) -> None:
        """Say what is wrong."""
        self.finish({"error": message})

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Context manager: what is wrong with a line is its result."""
        from blendin_mlx.errors import BlendinError

        try:
            yield
        except (ValueError, BlendinError) as error:
            self.fail(str(error))
        except click.ClickException as error:
            self.fail(error.format_message())


def _breaking_off(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Give lines on; while one is waited for, Ctrl-C breaks off at once."""
    coming = iter(lines)
    while True:
        with unswallowed_interrupt():
            line = next(coming, None)
        if line is None:
            return
        yield line


def _parsed(line: bytes) -> dict[str, Any]:
    from blendin_mlx.input_text import decoded, parsed_json

    try:
        given = parsed_json(decoded(line, "the line"))
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(given, dict):
        return given
    raise ValueError("not a JSON object")


def _messages(given: dict[str, Any]) -> list[dict[str, str]]:
    """Return the conversation of a line, and remove it from the line.

    A message's content is a text, or a list of texts as {"type": "text", "text": …}.
    """
    prompt, messages = given.pop("prompt", None), given.pop("messages", None)
    if (prompt is None) == (messages is None):
        raise ValueError('a line needs either "prompt" or "messages"')
    if prompt is not None:
        if not isinstance(prompt, str):
            raise ValueError('"prompt" must be a string')
        return [{"role": "user", "content": prompt}]
    read: list[Any] = list(map(_with_text, messages)) if isinstance(messages, list) else [None]
    if not all(map(_is_message, read)):
        raise ValueError('"messages" must be a list of {"role": …, "content": …}')
    return read


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
