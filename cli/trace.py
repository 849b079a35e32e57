"""``blendin trace``: what can be done with a recorded run."""

from __future__ import annotations

from pathlib import Path

import click

from .terminal import progress, say


@click.group()
def trace() -> None:
    """Check recorded runs."""


@trace.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-3,
    show_default=True,
    help="How far a recorded probability may be off.",
)
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors.")
def verify(file: Path, tolerance: float, quiet: bool) -> int:
    """Compute each step of a trace FILE again; exit 0 only when all of them follow.

    \b
    Example:
      blendin generate "Why is the sky blue?" --trace run.jsonl
      blendin trace verify run.jsonl
    """
    from blendin_mlx import replay
    from blendin_mlx.trace import TraceError, read_trace
    from blendin_models.resolve import load_pair

    records = list(read_trace(file))
    if not records or records[0]["type"] != "run":
        raise TraceError(f"{file} does not begin with a run record")
    with progress(quiet) as report:
        models = records[0]["models"]
        pair = load_pair(None, models["base"]["name"], models["aligned"]["name"], report)
    mismatch = replay.verify(pair, records, tolerance)
    if mismatch is not None:
        click.echo(f"{file}: {mismatch}", err=True)
        return 1
    steps = sum(record["type"] == "step" for record in records)
    say(f"{file}: all {steps} steps follow", quiet)
    return 0
