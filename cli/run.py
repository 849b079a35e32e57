"""``blendin run``: many prompts, one JSON object a line in, one a line out."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import click

from .json_lines import Line, each_line, messages_of, resume_option
from .options.extra import hint
from .options.groups import blend_options
from .options.override import overridden
from .options.settings import Settings
from .session import Session
from .terminal.interrupts import Interrupt
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
@resume_option
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
    session = Session(settings, quiet)
    session.keep_beginning()

    def result(given: Line, should_stop: Interrupt, what: str) -> Line:
        messages = messages_of(given)
        session.configure(overridden(settings, given))
        return session.result(whole_answer(session, messages, should_stop, what)[-1])

    return each_line(file, result, _is_done, resume_from, quiet)


def _is_done(result: Line) -> bool:
    return bool(result["finish_reason"] != "interrupted")
