"""``blendin generate``: one prompt, one answer, made for pipes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import IO

import click

from .codes import INTERRUPTED
from .options import Settings, blend_options
from .session import Session
from .shown import Shown, make_shown, show_options
from .terminal import Output, figures, interruptible, say


@click.command()
@click.argument("prompt", required=False)
@blend_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the text.")
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write every decision to this file, as JSON lines.",
)
@show_options
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors.")
def generate(
    prompt: str | None,
    settings: Settings,
    as_json: bool,
    trace: Path | None,
    show: str,
    marks: bool,
    quiet: bool,
) -> int:
    """Answer one PROMPT: standard input, then the argument, joined.

    \b
    Examples:
      blendin generate "How do I boil an egg?"
      cat article.txt | blendin generate "Summarise this:"
      blendin generate --json "Why is the sky blue?" | jq .blend
      blendin generate --method nudging --tau 0.3 --temp 0.7 --seed 1 "Tell me a story"
    """
    text = read_prompt(prompt)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_trace_file(trace)) if trace else None
        if as_json:
            return _answer_as_json(text, settings, file, quiet)
        return _answer(text, settings, file, make_shown(show, marks, quiet), quiet)


def _answer(text: str, settings: Settings, trace: IO[str] | None, shown: Shown, quiet: bool) -> int:
    session = Session(settings, quiet)
    with interruptible() as interrupt:
        for response in session.answer([{"role": "user", "content": text}], interrupt, trace):
            shown.show(response)
    shown.close(response)
    return INTERRUPTED if response.finish_reason == "interrupted" else 0


def _answer_as_json(text: str, settings: Settings, trace: IO[str] | None, quiet: bool) -> int:
    session = Session(settings, quiet)
    with interruptible() as interrupt:
        *_, last = session.answer([{"role": "user", "content": text}], interrupt, trace)
    Output().write(json.dumps(session.result(last), ensure_ascii=False) + "\n")
    say(figures(last.statistics), quiet)
    return INTERRUPTED if last.finish_reason == "interrupted" else 0


def _trace_file(path: Path) -> IO[str]:
    """Opened before the models load: a mistyped path should not cost that wait."""
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--trace: cannot write {path}: {error.strerror}") from None


def read_prompt(argument: str | None) -> str:
    """Standard input where it is no terminal, then the argument, joined by an empty line.

    Raises:
        click.UsageError: nothing was given, or what was given is not UTF-8.
    """
    parts = []
    if argument == "-" or not sys.stdin.isatty():
        parts.append(_decoded(sys.stdin.buffer.read(), "standard input").strip("\n"))
    if argument is not None and argument != "-":
        parts.append(_decoded(os.fsencode(argument), "the prompt argument"))
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise click.UsageError("the prompt is empty; give it as an argument or on standard input")
    return text


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{where} is not UTF-8 text: byte {error.start}") from None
