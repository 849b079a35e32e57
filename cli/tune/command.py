"""``blendin tune``: the dial set from good answers, and whether the guide is worth using at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import INTERRUPTED
from ..options.groups import scoring_options
from ..options.settings import GATES, Settings
from ..pair_loading import spec_of
from ..session import Session
from ..terminal.files import FileToWrite, Target, write_whole
from ..terminal.interrupts import Interrupt, interruptible
from ..terminal.output import Output, counted, say
from ..terminal.quiet import quiet_option
from ..terminal.status import STATUS
from ..tuned import weights_digest
from .examples import Example, read_examples
from .kept import KeptReadings
from .page import page
from .report import Report, as_json, as_text, report
from .saving import own_pair_file, write_pair
from .verdict import WORDS

if TYPE_CHECKING:
    from blendin_mlx.scoring.dial_map import Dial
    from blendin_mlx.scoring.readings import Reading

EVERY = 10  # examples between two lines of progress


@click.command()
@scoring_options
@click.option(
    "--examples",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.jsonl",
    help='Lines with "prompt" or "messages", a good "answer", perhaps a "kind".  '
    "[default: 94 of its own]",
)
@click.option("--save", metavar="NAME", help="Keep the settings as a pair of your own.")
@click.option("--json", "as_json_text", is_flag=True, help="A JSON object.")
@click.option("--html", type=FileToWrite(), help="Also write a web page of it.")
@quiet_option
def tune(
    settings: Settings,
    examples: Path | None,
    save: str | None,
    as_json_text: bool,
    html: Path | None,
    quiet: bool,
) -> int:
    """Set the dial from good answers, and say whether the guide is worth using at all.

    Both models read each example once; every setting follows from that by arithmetic. What a
    setting gains is told for prompts that had no part in choosing it. The options of the blend say
    what to compare with. What was read is kept: after Ctrl-C it goes on from there. How the answers
    come about that are then written shows "blendin diagnose".

    \b
    Examples:
      blendin tune --pair demo
      blendin tune --examples mine.jsonl --html map.html
      blendin tune --pair demo --save demo-tuned && blendin chat --pair demo-tuned
    """
    given = read_examples(examples)
    default = _compared_with(settings)
    if html is not None:
        Target(html, "--html")  # it can be written
    if save is not None and settings.lambda_ is not None:
        raise click.UsageError("--save: a pair keeps no --lambda; leave one of them out")
    if save is not None and len(settings.aligned) > 1:
        raise click.UsageError("--save: a pair keeps one aligned model, not several")
    file = own_pair_file(save, spec_of(settings).names()[:2]) if save is not None else None
    session = Session(settings, quiet)
    with interruptible() as interrupt:
        read = _read(session, given, interrupt, quiet)
    if interrupt.pressed:
        say(f"{counted(len(read), 'example')} read and kept; run it again to go on", quiet)
        return INTERRUPTED
    if not read:
        raise click.ClickException("not one example could be read")
    found = report(session.pair, [one for one, _ in read], [two for _, two in read], default)
    text = json.dumps(as_json(found), ensure_ascii=False) if as_json_text else as_text(found)
    Output().write(text + "\n")
    if html is not None:
        write_whole(html, page(found), "--html")
        say(f"wrote {html}", quiet)
    if file is not None:
        _save(file, settings, session, found, quiet)
    return 0


def _compared_with(settings: Settings) -> Dial:
    """Return the setting that the options mean.

    Raises:
        click.UsageError: a method that is not a mixture by the two weights of the dial, another
            gate, or tempered models.
    """
    from blendin_mlx.scoring.dial_map import Dial

    if settings.method not in ("blendin", "fixed"):
        raise click.UsageError(
            f"the dial is that of --method blendin or fixed, not of {settings.method}"
        )
    if settings.gate not in (None, GATES[0]) or settings.temper != 1.0:
        raise click.UsageError(
            f"the dial is read with --gate {GATES[0]} and --temper 1; leave out what differs"
        )
    values: dict[str, Any] = {"scale": settings.dial, "guide_temp": settings.guide_temp}
    given = {"tau": settings.tau, "lambda_": settings.lambda_, "alpha": settings.alpha}
    values |= {name: value for name, value in given.items() if value is not None}
    if settings.method == "fixed":
        values.setdefault("alpha", 0.5)
    return Dial(**values)


def _read(
    session: Session, given: Sequence[Example], interrupt: Interrupt, quiet: bool
) -> list[tuple[Example, Reading]]:
    """Read the examples that were not read before; what cannot be read is named and left out."""
    from blendin_mlx.errors import PromptError

    kept = KeptReadings(session.pair)
    read: list[tuple[Example, Reading]] = []
    for number, example in enumerate(given, 1):
        if interrupt.pressed:
            break
        STATUS.show("reading examples", number - 1, len(given), _examples)
        try:
            read.append((example, _reading(session, kept, example)))
        except PromptError as error:
            say(f"example of line {example.line} is left out: {error}", quiet)
        shown = sys.stderr.isatty() and number < len(given)  # the status line counts there
        if (number % EVERY == 0 and not shown) or number == len(given):
            say(f"read {number} of {counted(len(given), 'example')}", quiet)
    return read


def _examples(count: float) -> str:
    return f"{count:.0f} examples"


def _reading(session: Session, kept: KeptReadings, example: Example) -> Reading:
    """Return the reading of an example, from what is kept or from the models.

    Where the base's template ends an answer by a marker, the base does not end it by STOP, and STOP
    is not looked at.
    """
    from blendin_mlx.scoring.readings import TEMPERATURES, read_example

    settings = session.settings
    temperatures = tuple(sorted({*TEMPERATURES, settings.guide_temp}))
    prompt = session.prompt(example.messages)
    whole = not prompt.stops
    key = kept.key(prompt, example.answer, settings.projection, whole, temperatures)
    if (known := kept.get(key)) is not None:
        return known
    reading = read_example(
        session.pair,
        prompt,
        example.answer,
        complete=whole,
        temperatures=temperatures,
        projection=settings.projection,
        prompt_cache=session.cache,
    )
    kept.add(key, reading)
    return reading


def _save(file: Path, settings: Settings, session: Session, found: Report, quiet: bool) -> None:
    if found.verdict != "blend":
        say(f"nothing is saved: {WORDS[found.verdict]}", quiet)
        return
    models = spec_of(settings).parts()[:2]
    best, weights = found.outcome.best, weights_digest(session.pair)
    why = f"{found.base} guided by {found.aligned}, tuned on {counted(found.examples, 'example')}"
    write_pair(file, models, best, settings, weights, why)
    say(f"wrote {file}: use it with --pair {file.stem}", quiet)
