"""``blendin trace``: what can be done with a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options.types import Number
from ..terminal.files import FileToWrite, write_whole
from ..terminal.output import Output, complain, harmless, say
from ..terminal.progress import progress
from ..terminal.quiet import quiet_option

if TYPE_CHECKING:
    from blendin_mlx.trace.records import RecordedRun

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def trace() -> None:
    """Look at recorded runs, and check them.

    \b
    Examples:
      blendin generate "Why is the sky blue?" --trace run.jsonl
      blendin trace view run.jsonl
    """


@trace.command("verify")
@click.argument("file", type=EXISTING)
@click.option(
    "--tolerance",
    type=Number(min=0),
    help="How far a recorded probability may be off.  [default: 0.001; 0.05 with --kv-bits]",
)
@click.option("--pull", is_flag=True, help="Fetch models that the trace names and are not here.")
@quiet_option
def verify_command(file: Path, tolerance: float | None, pull: bool, quiet: bool) -> int:
    """Compute each step of a trace FILE again; exit 0 only when all of them follow.

    Quantized caches round what was read, differently in other passes: with them, tokens that are
    close may change places, and probabilities are compared less strictly. A trace may be somebody
    else's: the models that it names are fetched only with --pull.

    \b
    Example:
      blendin generate "Why is the sky blue?" --trace run.jsonl
      blendin trace verify run.jsonl
    """
    from blendin_mlx.errors import TraceError
    from blendin_mlx.trace.records import is_run, read_trace
    from blendin_mlx.trace.verify import verify
    from blendin_models import load_pair

    records = list(read_trace(file))
    if not records or not is_run(records[0]):
        raise TraceError(f"{file} is no trace: it does not begin with a run record")
    models = records[0]["models"]
    roles = ("base", "aligned", "reference")
    found = {role: _found(models[role]) for role in roles if role in models}
    if not pull:
        _require_here(file, list(found.values()))
    with progress(quiet) as report:
        pair = load_pair(
            None, found["base"], found["aligned"], report, reference=found.get("reference")
        )
    mismatch = verify(pair, records, tolerance)
    if mismatch is not None:
        complain(f"{file}: {mismatch}")
        return 1
    steps = sum(record["type"] == "step" for record in records)
    rounded = "" if records[0].get("kv_bits") is None else ", as far as quantized caches can tell"
    say(f"{file}: all {steps} steps follow{rounded}", quiet)
    return 0


def _require_here(file: Path, names: list[str]) -> None:
    """Refuse models that would have to be fetched.

    Raises:
        ModelError: it names the models and the option.
    """
    from blendin_models.errors import ModelError
    from blendin_models.fetching.resolve import missing

    if lacking := missing(names):
        named = " and ".join(lacking)
        raise ModelError(f"{file} needs {named}, not on this machine; --pull fetches")


def _found(model: dict[str, Any]) -> str:
    """Where a recorded model is: the folder that it was read from, else wherever its name says."""
    path = model.get("path")
    return path if isinstance(path, str) and Path(path).is_dir() else str(model["name"])


@trace.command()
@click.argument("file", type=EXISTING)
@click.option("--marks", is_flag=True, help="Marks instead of colours.")
@quiet_option
def view(file: Path, marks: bool, quiet: bool) -> None:
    """Show the answer of a trace FILE, and who decided each token; no model is needed.

    Marks stand in for colours with --marks, with NO_COLOR or TERM=dumb, and in a pipe.

    \b
    Example:
      blendin trace view run.jsonl
    """
    from ..terminal.blend_view import (
        BlendView,
        closing_line,
        override_line,
        recorded_decision,
        wants_marks,
    )

    recorded = _read(file, quiet)
    shown = BlendView(marks or wants_marks())
    decided = [recorded_decision(step) for step in recorded.steps]
    pairs = list(zip(decided, recorded.steps, strict=True))
    overrides = [step for who, step in pairs if who == "override"]
    lines = ["".join(shown.piece(who, s["alpha"], s["text"]) for who, s in pairs), ""]
    lines += [_about(recorded, decided[-1:] == ["end"]), shown.legend()]
    lines += [closing_line([step["alpha"] for step in recorded.steps], len(overrides))]
    if overrides:
        lines += ["", "overrides (token, the base's wish → what was written):"]
        lines += [override_line(step) for step in overrides]
    Output().write_styled("\n".join([*lines, ""]))


def _about(recorded: RecordedRun, by_guide: bool) -> str:
    """Who answered, how, and why that ended, in one line."""
    run = recorded.run
    names = {"method": "method", "tau": "τ", "alpha": "α", "temp": "temperature", "seed": "seed"}
    how = [f"{word} {run[key]}" for key, word in names.items() if run.get(key) is not None]
    ended = (recorded.end or {}).get("finish_reason", "cut off")
    models = f"{run['models']['base']['name']}, guided by {run['models']['aligned']['name']}"
    wish = ", as the guide wished" if by_guide else ""
    return harmless(f"{models}; {', '.join([*how, f'end: {ended}'])}{wish}")


@trace.command()
@click.argument("files", nargs=-1, required=True, type=EXISTING)
@click.option(
    "--output",
    "-o",
    type=FileToWrite(),
    help="Where the page goes; by default beside the first FILE, as .html.",
)
@quiet_option
def html(files: tuple[Path, ...], output: Path | None, quiet: bool) -> None:
    """Write one web page that shows the runs of trace FILES side by side; it fetches nothing.

    \b
    Example:
      blendin trace html run.jsonl other.jsonl -o runs.html
    """
    from .page import page

    runs = [(file.name, _read(file, quiet)) for file in files]
    target = output or files[0].with_suffix(".html")
    if any(target.resolve() == file.resolve() for file in files):
        raise click.UsageError(f"-o: {target} is one of the traces")
    write_whole(target, page(runs), "-o")
    say(f"wrote {target}", quiet)


def _read(file: Path, quiet: bool) -> RecordedRun:
    from blendin_mlx.trace.records import read_run

    recorded = read_run(file)
    for note in recorded.notes:
        say(note, quiet)
    return recorded
