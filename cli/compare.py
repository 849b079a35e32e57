"""``blendin compare``: one prompt, answered by each method in turn."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from .errors import INTERRUPTED
from .generate import read_prompt
from .options.groups import blend_options
from .options.method import make_method, with_method, with_reference
from .options.settings import METHODS, Settings
from .session import Session
from .terminal.figures import all_figures, short_figures
from .terminal.interrupts import Interrupt, interruptible, unswallowed_interrupt
from .terminal.output import Output, say
from .terminal.quiet import quiet_option
from .terminal.safe_text import harmless
from .whole_answers import whole_answer

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Response

_WIDE = 100  # columns of a terminal from which on answers stand side by side


@click.command()
@click.argument("prompt", required=False)
@blend_options
@click.option(
    "--with",
    "others",
    type=click.Choice(METHODS),
    multiple=True,
    help="Another method to compare, with the options that it has too; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the texts.")
@click.option("--verbose", "-v", is_flag=True, help="All figures of each answer.")
@quiet_option
def compare(
    prompt: str | None,
    settings: Settings,
    others: tuple[str, ...],
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Answer one PROMPT by the base alone, the aligned model alone, and the blend.

    \b
    Examples:
      blendin compare "How do I boil an egg?"
      blendin compare --with nudging --with ensemble -m 60 "Why is the sky blue?"
      blendin compare --json "Why is the sky blue?" | jq '.answers[] | {method, text}'
    """
    text = read_prompt(prompt)
    methods = dict.fromkeys(("base", "aligned", settings.method, *others))
    with unswallowed_interrupt():
        settings = with_reference(settings, methods)
        for method in methods:  # what one of them cannot do is said before the models are loaded
            make_method(with_method(settings, method))
    session = Session(settings, quiet)
    figures = all_figures if verbose else short_figures
    answers: dict[str, Response] = {}
    with interruptible() as interrupt:
        for method in methods:
            if interrupt.pressed:
                break
            session.configure(with_method(settings, method))
            answers[method] = _answer(session, text, interrupt)
            say(f"{method}: {figures(answers[method].statistics)}", quiet)
    if as_json:
        results = [{"method": name, **session.result(last)} for name, last in answers.items()]
        Output().write(json.dumps({"prompt": text, "answers": results}, ensure_ascii=False) + "\n")
    else:
        opening = "Answer:" if settings.base_template == "plain" else ""  # the base may write it
        texts = {name: last.statistics.text.strip() for name, last in answers.items()}
        _show({name: text.removeprefix(opening).strip() for name, text in texts.items()})
    return INTERRUPTED if interrupt.pressed else 0


def _answer(session: Session, text: str, interrupt: Interrupt) -> Response:
    messages = [{"role": "user", "content": text}]
    return whole_answer(session, messages, interrupt, f"answering with {session.settings.method}")[
        -1
    ]


def _show(texts: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not sys.stdout.isatty() or console.width < _WIDE:
        Output().write("\n\n".join(f"{name}:\n{text}" for name, text in texts.items()))
        Output().write("\n")
        return
    table = Table(expand=True, show_lines=False)
    for name in texts:
        table.add_column(name, ratio=1)
    table.add_row(*(Text(harmless(text)) for text in texts.values()))
    console.print(table)
