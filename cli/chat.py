"""``blendin chat``: a conversation; both models' caches are kept between turns."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from .options import Settings, blend_options
from .session import Session
from .terminal import Output, figures, interruptible, say

HELP = "/help  this list   /clear  forget the conversation   /quit  leave (or Ctrl-D)"


@click.command()
@blend_options
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors.")
def chat(settings: Settings, quiet: bool) -> None:
    """Talk with a pair of models. Ctrl-C stops an answer; /help lists the commands.

    \b
    Examples:
      blendin chat
      blendin chat --base HuggingFaceTB/SmolLM2-360M --aligned smollm2-135m-instruct
      echo "How do I boil an egg?" | blendin chat

    Without a terminal, each line of standard input is a message.
    """
    from blendin_mlx.errors import PromptError

    session = Session(settings, quiet)
    names = f"{session.pair.base.name}, guided by {session.pair.aligned.name}"
    say(f"{names}.  {HELP}", quiet)
    messages: list[dict[str, str]] = []
    for line in _lines():
        text = line.strip()
        if text == "/quit":
            break
        if text == "/clear":
            messages.clear()
        elif text.startswith("/"):
            say(HELP if text == "/help" else f"{text.split()[0]} is no command. {HELP}")
        elif text:
            messages.append({"role": "user", "content": text})
            try:
                messages.append(_turn(session, messages, quiet))
            except PromptError as error:
                if not sys.stdin.isatty():
                    raise
                say(f"{error}, or /clear")
                messages.pop()


def _turn(session: Session, messages: list[dict[str, str]], quiet: bool) -> dict[str, str]:
    """Answer the last message; what was said so far is kept when it is interrupted."""
    output = Output()
    with interruptible() as interrupt:
        for response in session.answer(messages, interrupt):
            output.write(response.text)
    output.end()
    say(figures(response.statistics), quiet)
    return {"role": "assistant", "content": response.statistics.text}


def _lines() -> Iterator[str]:
    """Messages: typed at a prompt on a terminal, else the lines of standard input."""
    if not sys.stdin.isatty():
        yield from _piped()
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.output import create_output

    # Where stdout goes into a pipe, the prompt is shown on stderr.
    output = create_output(always_prefer_tty=True)
    prompt: PromptSession[str] = PromptSession(history=InMemoryHistory(), output=output)
    while True:
        try:
            yield prompt.prompt("> ")
        except KeyboardInterrupt:
            continue  # it came too late for the answer, or discards a line
        except EOFError:
            return


def _piped() -> Iterator[str]:
    offset = 0
    for line in sys.stdin.buffer:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise click.UsageError(
                f"standard input is not UTF-8 text: byte {offset + error.start}"
            ) from None
        offset += len(line)
