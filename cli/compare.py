"""``blendin compare``: one prompt, answered by each method in turn."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .errors import INTERRUPTED
from .generate import read_prompt
from .options.groups import batch_option, blend_options
from .options.method import make_method, with_method, with_reference
from .options.settings import METHODS, Settings
from .session import Session
from .side_by_side import SideBySide, check_batch
from .terminal.figures import all_figures, short_figures
from .terminal.interrupts import Interrupt, interruptible, unswallowed_interrupt
from .terminal.output import Output, say
from .terminal.quiet import quiet_option
from .terminal.safe_text import harmless
from .whole_answers import whole_answer

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Response


class Answered(NamedTuple):
    """The last part of a method's answer, and the seed of its random numbers."""

    last: Response
    seed: int | None


Answers = Iterator[tuple[str, Answered]]
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
@batch_option("1")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the texts.")
@click.option("--verbose", "-v", is_flag=True, help="All figures of each answer.")
@quiet_option
def compare(
    prompt: str | None,
    settings: Settings,
    others: tuple[str, ...],
    batch: int | None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Answer one PROMPT by the base alone, the aligned model alone, and the blend.

    With --batch the answers are written side by side, each as it would be alone; the speeds are
    then those of an answer among the others.

    \b
    Examples:
      blendin compare "How do I boil an egg?"
      blendin compare --with nudging --with ensemble -m 60 "Why is the sky blue?"
      blendin compare --json "Why is the sky blue?" | jq '.answers[] | {method, text}'
    """
    check_batch(settings, batch)
    text = read_prompt(prompt)
    methods = dict.fromkeys(("base", "aligned", settings.method, *others))
    with unswallowed_interrupt():
        settings = with_reference(settings, methods)
        for method in methods:  # what one of them cannot do is said before the models are loaded
            make_method(with_method(settings, method))
    session = Session(settings, quiet)
    figures = all_figures if verbose else short_figures
    answers: dict[str, Answered] = {}
    with interruptible() as interrupt:
        each = {name: with_method(settings, name) for name in methods}
        if batch == 1:
            found = _in_turn(session, each, text, interrupt)
        else:
            found = _side_by_side(session, each, text, interrupt, SideBySide(session, batch))
        for method, answered in found:
            answers[method] = answered
            say(f"{method}: {figures(answered.last.statistics)}", quiet)
    if as_json:
        results = [_result(session, name, one) for name, one in answers.items()]
        Output().write(json.dumps({"prompt": text, "answers": results}, ensure_ascii=False) + "\n")
    else:
        opening = "Answer:" if settings.base_template == "plain" else ""  # the base may write it
        texts = {name: one.last.statistics.text.strip() for name, one in answers.items()}
        _show({name: text.removeprefix(opening).strip() for name, text in texts.items()})
    return INTERRUPTED if interrupt.pressed else 0


def _in_turn(
    session: Session, methods: dict[str, Settings], text: str, interrupt: Interrupt
) -> Answers:
    """Answer a question by one method after the other."""
    for method, settings in methods.items():
        if interrupt.pressed:
            return
        session.configure(settings)
        what = f"answering with {method}"
        last = whole_answer(session, _asked(text), interrupt, what)[-1]
        yield method, Answered(last, session.seed)


def _side_by_side(
    session: Session,
    methods: dict[str, Settings],
    text: str,
    interrupt: Interrupt,
    several: SideBySide,
) -> Answers:
    """Answer a question by several methods at once."""
    prompts = []
    for settings in methods.values():
        session.configure(settings)
        prompts.append(several.prompt(_asked(text)))
    answers = several.answers(prompts, interrupt)
    for method, prompt, responses in zip(methods, prompts, answers, strict=False):
        yield method, Answered(responses[-1], prompt.seed)


def _result(session: Session, method: str, answered: Answered) -> dict[str, Any]:
    return {"method": method, **session.result(answered.last), "seed": answered.seed}


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


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
