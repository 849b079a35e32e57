"""``blendin diagnose``: is a guide any good for a base? What many prompts tell, and what not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from .codes import INTERRUPTED
from .compare import by_method
from .diagnose_page import page
from .diagnose_plot import draw, require_matplotlib
from .options import Settings, blend_options
from .session import Session
from .terminal import Interrupt, interruptible, say
from .verdict import Alone, Blended, Report, is_stable, ranked, rows, summarise, verdict

if TYPE_CHECKING:
    from blendin_mlx.answering import Response
    from blendin_mlx.step import Step

TARGET = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@blend_options
@click.option(
    "--guide", "guides", metavar="MODEL", multiple=True, help="Another guide; may be repeated."
)
@click.option(
    "--prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A prompt a line, or .jsonl with "prompt".  [default: 30 of its own]',
)
@click.option("--until", type=click.Choice(["stable"]), help="Stop when the rate is known to ±2 %.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array of reports, the best first.")
@click.option("--html", type=TARGET, help="Also write a web page of it.")
@click.option("--png", type=TARGET, help="Also draw it; needs the plot extra.")
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors.")
def diagnose(
    settings: Settings,
    guides: tuple[str, ...],
    prompts: Path | None,
    until: str | None,
    as_json: bool,
    html: Path | None,
    png: Path | None,
    quiet: bool,
) -> int:
    """Measure how a base and its guides get on, over a set of prompts.

    \b
    Examples:
      blendin diagnose -m 64
      blendin diagnose --base X --aligned Y --guide Z --until stable
      blendin diagnose --html guide.html --png guide.png
      blendin diagnose --prompts mine.txt --json | jq '.[0].verdict'
    """
    asked = read_prompts(prompts)
    if png is not None:
        require_matplotlib()
    reports, base = [], list[Alone]()
    with interruptible() as interrupt:
        for guide in (None, *guides):
            chosen = settings if guide is None else _with_guide(settings, guide)
            if interrupt.pressed:
                break
            session = Session(chosen, quiet)
            report = _measure(session, asked, base, until is not None, interrupt, quiet)
            reports += [report] if report else []
    best = ranked(reports)
    if as_json:
        click.echo(json.dumps([report.as_json() for report in best], ensure_ascii=False))
    else:
        for report in best:
            _print(report)
    if best and html is not None:
        html.write_text(page(best), encoding="utf-8")
        say(f"wrote {html}", quiet)
    if best and png is not None:
        draw(best, png)
        say(f"wrote {png}", quiet)
    return INTERRUPTED if interrupt.pressed else 0


def read_prompts(file: Path | None) -> list[str]:
    """The prompts of a file, or the built-in ones.

    Raises:
        click.UsageError: a line that is none, by its number.
    """
    text: Any = files(__package__) / "prompts.txt" if file is None else file
    try:
        lines = text.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8 text: byte {error.start}") from None
    is_json = file is not None and file.suffix == ".jsonl"
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    found = [_prompt(file, n, line) if is_json else line.strip() for n, line in numbered]
    if not found:
        raise click.UsageError(f"{file} has no prompts")
    return found


def _prompt(file: Path | None, number: int, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str) or not prompt.strip():
        raise click.UsageError(f'{file}, line {number}: no object with a "prompt"')
    return prompt


def _with_guide(settings: Settings, guide: str) -> Settings:
    from blendin_models import catalogue

    base = settings.base or catalogue.find_pair(settings.pair or "demo").base
    return replace(settings, pair=None, base=base, aligned=guide)


def _measure(
    session: Session,
    prompts: Sequence[str],
    base: list[Alone],
    until_stable: bool,
    interrupt: Interrupt,
    quiet: bool,
) -> Report | None:
    """The report of one guide; None where not one prompt was answered.

    Args:
        base: the base's own answers so far, which no guide changes; missing ones are added.
    """
    name, settings = session.pair.aligned.name, session.settings
    blended, aligned = list[Blended](), list[Alone]()
    peak = 0
    for number, prompt in enumerate(prompts, 1):
        of_base = base[number - 1 : number] or [
            _alone(session, settings, "base", prompt, interrupt)
        ]
        of_guide = _alone(session, settings, "aligned", prompt, interrupt)
        session.configure(settings)
        answer = _answer(session, prompt, interrupt)
        if interrupt.pressed:
            break
        base[number - 1 : number] = of_base
        aligned.append(of_guide)
        blended.append(counted(session, answer))
        peak = max(peak, answer[-1].statistics.peak_bytes)
        say(f"{name}: {number} of {len(prompts)} prompts", quiet)
        if until_stable and is_stable(blended):
            say(f"{name}: the rate is known to ±2 % after {number} prompts", quiet)
            break
    if not blended:
        return None
    return summarise(name, blended, base[: len(blended)], aligned, peak)


def _alone(
    session: Session, settings: Settings, method: str, prompt: str, interrupt: Interrupt
) -> Alone:
    session.configure(by_method(settings, method))
    last = _answer(session, prompt, interrupt)[-1].statistics
    return Alone(last.finish_reason == "length", last.tokens_per_s)


def _answer(session: Session, prompt: str, should_stop: Callable[[], bool]) -> list[Response]:
    return list(session.answer([{"role": "user", "content": prompt}], should_stop))


def counted(session: Session, responses: Sequence[Response]) -> Blended:
    """What of an answer's steps matters here."""
    steps = [piece.step for response in responses for piece in response.pieces]
    statistics = responses[-1].statistics
    stops = (session.pair.base.vocabulary.stop, session.pair.aligned.vocabulary.stop)
    asked = [step.aligned.prob for step in steps if step.aligned is not None]
    return Blended(
        asked=tuple(step.is_intervention for step in steps),
        overrides=statistics.overrides,
        base_ends_lost=sum(step.base.id == stops[0] and not step.is_stop for step in steps),
        guide_ends_lost=sum(_guide_ends(step, stops[1]) and not step.is_stop for step in steps),
        base_confidence=fmean(step.base.prob for step in steps) if steps else 0.0,
        guide_confidence=fmean(asked) if asked else None,
        exact_mass=statistics.exact_mass,
        hit_limit=statistics.finish_reason == "length",
        tokens_per_s=statistics.tokens_per_s,
    )


def _guide_ends(step: Step, stop: int) -> bool:
    return step.aligned is not None and step.aligned.id == stop


def _print(report: Report) -> None:
    click.echo(report.guide)
    for name, value in rows(report).items():
        click.echo(f"  {name:<14}{value}")
    for line in verdict(report):
        click.echo(f"  - {line}")
