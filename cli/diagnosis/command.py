"""The command ``blendin diagnose``: measure how well guides suit a base."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from ..errors import INTERRUPTED
from ..options.extra import refuse_extra
from ..options.groups import blend_options
from ..options.names import model_names
from ..options.settings import Settings
from ..options.types import Whole
from ..terminal.files import FileToWrite, Target, write_whole
from ..terminal.interrupts import interruptible
from ..terminal.output import Output, say
from ..terminal.quiet import quiet_option
from . import guides as candidates
from .measure import measure
from .page import page
from .plot import draw, require_matplotlib
from .ranking import ORDER, as_json, comparisons, ranked
from .report import Alone, Report
from .verdict import rows, verdict

_NAMED = 5  # bad lines of a prompt file that a message lists


@click.command(context_settings={"allow_extra_args": True})
@blend_options
@click.option(
    "--guide",
    "guides",
    metavar="MODEL",
    multiple=True,
    shell_complete=model_names,
    help="Another guide; may be repeated.",
)
@click.option(
    "--prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A prompt per line, or .jsonl with "prompt".  [default: 30 built-in prompts]',
)
@click.option(
    "--batch",
    type=Whole(1, 64),
    default=1,
    show_default=True,
    help="Answer so many prompts at once; speeds are then those of an answer among so many.",
)
@click.option("--until", type=click.Choice(["stable"]), help="Stop when the rate is known to ±2 %.")
@click.option(
    "--json", "as_json_text", is_flag=True, help="A JSON array of reports, the best first."
)
@click.option("--html", type=FileToWrite(), help="Also write a web page.")
@click.option("--png", type=FileToWrite(), help="Also draw a plot; needs the plot extra.")
@quiet_option
@click.pass_context
def diagnose(
    ctx: click.Context,
    settings: Settings,
    guides: tuple[str, ...],
    prompts: Path | None,
    batch: int,
    until: str | None,
    as_json_text: bool,
    html: Path | None,
    png: Path | None,
    quiet: bool,
) -> int:
    """Measure how well guides suit a base, over a set of prompts.

    \b
    Examples:
      blendin diagnose -m 64
      blendin diagnose --base X --aligned Y --guide Z --until stable
      blendin diagnose --html guide.html --png guide.png
      blendin diagnose --prompts mine.txt --json | jq '.[0].verdict'
    """
    refuse_extra(ctx, "prompts are given in a file: --prompts FILE")
    asked = read_prompts(prompts)
    if png is not None:
        require_matplotlib()
    for option, file in (("--html", html), ("--png", png)):
        if file is not None:
            Target(file, option)  # raises if it cannot be written
    found = candidates.find(settings, guides, quiet)
    reports, base = list[Report](), list[Alone]()
    with interruptible() as interrupt:
        try:
            for guide in found:
                if interrupt.pressed:
                    break
                report = measure(guide, asked, base, until is not None, interrupt, quiet, batch)
                reports += [report] if report else []
        finally:  # if a later guide fails, the others are still reported
            if reports:
                _tell(ranked(reports), as_json_text, html, png, quiet)
    return INTERRUPTED if interrupt.pressed else 0


def read_prompts(file: Path | None) -> list[str]:
    """Read the prompts of a file, or the built-in ones.

    Raises:
        click.UsageError: the file has no prompts, or lines without one; names their numbers.
        ValueError: the file is not UTF-8.
    """
    from blendin_mlx.input_text import decoded

    source: Any = files(__package__) / "prompts.txt" if file is None else file
    lines = decoded(source.read_bytes(), str(file)).split("\n")
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if file is not None and file.suffix == ".jsonl":
        found = _prompts(file, numbered)
    else:
        found = [line.strip() for _, line in numbered]
    if not found:
        raise click.UsageError(f"{file} has no prompts")
    return found


def _prompts(file: Path, lines: Sequence[tuple[int, str]]) -> list[str]:
    found = [(number, _prompt(line)) for number, line in lines]
    if bad := [number for number, prompt in found if prompt is None]:
        raise click.UsageError(f'{file}, {numbered(bad)}: not an object with a "prompt"')
    return [prompt for _, prompt in found if prompt is not None]


def _prompt(line: str) -> str | None:
    """Return the prompt of a JSON line; None if there is none, or it is blank."""
    from blendin_mlx.input_text import parsed_json

    try:
        prompt = parsed_json(line)["prompt"]
        if isinstance(prompt, str) and prompt.strip():
            return prompt
    except (ValueError, KeyError, TypeError):
        pass
    return None


def numbered(lines: Sequence[int]) -> str:
    """Format numbers: ``line 2``, ``lines 1, 3 and 7``, ``lines 1, 2, 3, 4, 5 and 12 more``."""
    if len(lines) == 1:
        return f"line {lines[0]}"
    shown = [str(number) for number in lines[:_NAMED]]
    rest = len(lines) - len(shown)
    last = f"{rest} more" if rest else shown.pop()
    return f"lines {', '.join(shown)} and {last}"


def _tell(
    order: Sequence[Report], as_json_text: bool, html: Path | None, png: Path | None, quiet: bool
) -> None:
    """Print the reports, and write the files that options name."""
    if as_json_text:
        text = json.dumps(as_json(order), ensure_ascii=False) + "\n"
    else:
        text = "\n".join([*map(_text, order), *([_ranking(order)] if len(order) > 1 else [])])
    Output().write(text)
    if html is not None:
        write_whole(html, page(order), "--html")
        say(f"wrote {html}", quiet)
    if png is not None:
        write_whole(png, draw(order), "--png")
        say(f"wrote {png}", quiet)


def _text(report: Report) -> str:
    figures = [f"  {name:<16}{value}" for name, value in rows(report).items()]
    remarks = [f"  - {line}" for line in verdict(report)]
    return "\n".join([report.guide, *figures, *remarks, ""])


def _ranking(order: Sequence[Report]) -> str:
    against = [*(f"   {one.text}" for one in comparisons(order)), ""]
    places = zip(order, against, strict=True)
    lines = [f"{rank}. {one.guide}\n{told}" for rank, (one, told) in enumerate(places, 1)]
    return "\n".join([f"ranking: {ORDER}", *lines])
