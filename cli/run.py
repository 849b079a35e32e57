"""``blendin run``: answer many prompts, a JSON object per line in and out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from .errors import FAILURE, INTERRUPTED
from .options.extra import hint
from .options.groups import blend_options
from .options.override import overridden
from .options.settings import Settings
from .session import Session
from .terminal.interrupts import interruptible
from .terminal.output import Output, counted, say
from .terminal.quiet import quiet_option
from .whole_answers import whole_answer


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
    "--resume-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="OUT.jsonl",
    help="Skip the lines that are answered in this file.",
)
@quiet_option
def run(file: IO[bytes], settings: Settings, resume_from: Path | None, quiet: bool) -> int:
    """Answer every line of IN.jsonl ("-" for standard input), in order.

    A line is an object with "prompt" or "messages", optionally an "id", and options by their long
    names: {"prompt": "Why is the sky blue?", "max_tokens": 64, "tau": 0.3}. Each is answered by an
    object as of generate --json. A bad line is answered by {"error": …}, and the exit code is 1 at
    the end. A common prefix of the prompts is read once.

    \b
    Examples:
      blendin run prompts.jsonl > answers.jsonl
      echo '{"prompt": "Say hello."}' | blendin run - | jq -r .text
      blendin run prompts.jsonl --resume-from answers.jsonl >> answers.jsonl
    """
    answered = _answered(resume_from) if resume_from else frozenset()
    if resume_from:
        _mend_end(resume_from)
    session = Session(settings, quiet)
    session.keep_beginning()
    output = Output()
    done = failed = 0
    for number, line in _lines(file):
        if number in answered:
            continue
        with interruptible() as interrupt:
            result = _answer(session, settings, line, interrupt, f"line {number}")
        done, failed = done + 1, failed + ("error" in result)
        if "error" in result:
            say(f"line {number}: {result['error']}")
        output.write(json.dumps({"line": number, **result}, ensure_ascii=False) + "\n")
        if interrupt.pressed:
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


def _answer(
    session: Session,
    settings: Settings,
    line: bytes,
    should_stop: Callable[[], bool],
    what: str,
) -> dict[str, Any]:
    """Return the result object of a line, or an object with its error."""
    from blendin_mlx.errors import BlendinError

    kept: dict[str, Any] = {}
    try:
        given = _parsed(line)
        kept = {"id": given.pop("id")} if "id" in given else {}
        messages = _messages(given)
        session.configure(overridden(settings, given))
        last = whole_answer(session, messages, should_stop, what)[-1]
    except (ValueError, BlendinError) as error:
        return {**kept, "error": str(error)}
    except click.ClickException as error:
        return {**kept, "error": error.format_message()}
    return {**kept, **session.result(last)}


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
