"""``blendin generate``: one prompt, one answer, made for pipes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import FAILURE, INTERRUPTED
from .machines import group
from .options.groups import blend_options, shard_option
from .options.settings import Settings
from .prompting import joined
from .session import Session
from .terminal.answer_view import View, make_shown, show_options
from .terminal.files import FileToWrite, Target
from .terminal.interrupts import interruptible
from .terminal.output import Output, say
from .whole_answers import whole_answer

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Response


@click.command()
@click.argument("prompt", required=False)
@blend_options
@shard_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the text.")
@click.option(
    "--trace",
    type=FileToWrite(),
    help="Write every decision to this file, as JSON lines.",
)
@show_options
def generate(
    prompt: str | None, settings: Settings, as_json: bool, trace: Path | None, view: View
) -> int:
    """Answer one PROMPT: standard input, then the argument, joined.

    \b
    Examples:
      blendin generate "How do I boil an egg?"
      cat article.txt | blendin generate "Summarise this:"
      blendin generate --json "Why is the sky blue?" | jq .blend
      cat manual.txt | blendin generate --prompt-cache manual.safetensors "How do I begin?"
      blendin generate --method nudging --tau 0.3 --temp 0.7 --seed 1 "Tell me a story"
    """
    parts = read_parts(prompt)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Target(trace, "--trace")) if trace else None
        if as_json:
            return _answer_as_json(parts, settings, file, view)
        return _answer(parts, settings, file, view)


def _answer(parts: list[str], settings: Settings, trace: Target | None, view: View) -> int:
    session, messages = _session(parts, settings, view.quiet)
    shown = make_shown(view)
    with interruptible() as interrupt:
        try:
            for response in session.answer(messages, interrupt, trace):
                shown.show(response, session.opened)
        finally:  # whatever is said next begins a line
            shown.end()
    shown.close(response.statistics)
    return _code(session, response)


def _answer_as_json(parts: list[str], settings: Settings, trace: Target | None, view: View) -> int:
    session, messages = _session(parts, settings, view.quiet)
    with interruptible() as interrupt:
        last = whole_answer(session, messages, interrupt, trace=trace)[-1]
    Output().write(json.dumps(session.result(last), ensure_ascii=False) + "\n")
    say(view.figures(last.statistics), view.quiet)
    return _code(session, last)


def _code(session: Session, last: Response) -> int:
    """Return the exit code of an answer: half a JSON document is a failure."""
    if last.finish_reason == "interrupted":
        return INTERRUPTED
    return FAILURE if session.cut_json else 0


def _session(
    parts: list[str], settings: Settings, quiet: bool
) -> tuple[Session, list[dict[str, str]]]:
    """Load the models; return the session and what they are asked."""
    session = Session(settings, quiet)
    session.keep_beginning(*parts[:-1])
    return session, [{"role": "user", "content": joined(*parts)}]


def read_prompt(argument: str | None) -> str:
    """Return the parts of :func:`read_parts`, joined by an empty line."""
    return joined(*read_parts(argument))


def read_parts(argument: str | None) -> list[str]:
    """Return standard input if it is not a terminal, then the argument; one of them at least.

    On two machines standard input never ends, and is read only if asked for by ``-``.

    Raises:
        click.UsageError: nothing was given.
        ValueError: what was given is not UTF-8.
    """
    from blendin_mlx.input_text import decoded

    parts = []
    if argument == "-" or not (sys.stdin.isatty() or group()):  # of a group it never ends
        parts.append(decoded(sys.stdin.buffer.read(), "standard input").strip("\n"))
    if argument is not None and argument != "-":
        parts.append(decoded(os.fsencode(argument), "the prompt argument"))
    parts = [part for part in parts if part.strip()]
    if not parts and group():
        raise click.UsageError("give the prompt as an argument: mlx.launch does not end its input")
    if not parts:
        raise click.UsageError("the prompt is empty; give it as an argument or on standard input")
    return parts
