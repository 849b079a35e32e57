"""The commands of ``blendin trace``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..habits import Group
from ..options.types import Number
from ..terminal.files import FileToWrite, write_whole
from ..terminal.output import Output, complain, say
from ..terminal.progress import progress
from ..terminal.quiet import quiet_option
from ..terminal.safe_text import harmless

if TYPE_CHECKING:
    from blendin_mlx.trace.records import RecordedRun

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Group)
def trace() -> None:
    """View and verify recorded runs.

    \b
    Examples:
      blendin generate "Why is the sky blue?" --trace run.jsonl
      blendin trace view run.jsonl
    """


@trace.command("verify")
@click.argument("file", type=_EXISTING)
@click.option(
    "--tolerance",
    type=Number(min=0),
    help="Allowed error of probabilities.  [default: 0.001; 0.05 with --kv-bits]",
)
@click.option("--pull", is_flag=True, help="Fetch the trace's models if they are missing.")
@quiet_option
def verify_command(file: Path, tolerance: float | None, pull: bool, quiet: bool) -> int:
    """Compute each step of a trace FILE again; exit 0 only if all of them are confirmed.

    Quantized caches are rounded, differently in passes of other sizes: with them, near-ties may be
    decided otherwise, and probabilities are compared less strictly. A trace may come from an
    untrusted source: the models that it names are fetched only with --pull.

    \b
    Example:
      blendin generate "Why is the sky blue?" --trace run.jsonl
      blendin trace verify run.jsonl
    """
    from blendin_mlx.errors import TraceError
    from blendin_mlx.trace.records import is_run, read_trace, recorded_weights
    from blendin_mlx.trace.verify import verify_trace
    from blendin_models.pair import PairSpec, load_spec

    records = list(read_trace(file))
    if not records or not is_run(records[0]):
        raise TraceError(f"{file} is not a trace: it does not begin with a run record")
    steps = sum(record["type"] == "step" for record in records)
    if not steps:
        raise TraceError(f"{file} has no steps: there is nothing to verify")
    models = records[0]["models"]
    found = {role: _found(model) for role, model in models.items()}
    guides = [found[role] for role in found if role.startswith("aligned")]
    weights = recorded_weights(records[0])
    adapters = {role: _adapter(file, models[role]) for role in found}
    if not pull:
        _require_here(file, list(found.values()))
    with progress(quiet) as report:
        spec = PairSpec(
            base=found["base"],
            aligned=guides,
            weights=weights,
            reference=found.get("reference"),
            base_adapter=adapters["base"],
            aligned_adapter=adapters["aligned"],
        )
        pair = load_spec(spec, report)
    mismatch = verify_trace(pair, records, tolerance)
    if mismatch is not None:
        complain(f"blendin: {file}: {mismatch}")
        return 1
    rounded = "" if records[0].get("kv_bits") is None else ", within the rounding of its caches"
    say(f"{file}: all {steps} steps reproduced{rounded}", quiet)
    return 0


def _require_here(file: Path, names: list[str]) -> None:
    """Raise if models would have to be fetched.

    Raises:
        ModelError: names the models and the option.
    """
    from blendin_models.errors import ModelError
    from blendin_models.fetching.resolve import missing

    if lacking := missing(names):
        named = " and ".join(lacking)
        raise ModelError(f"{file} needs {named}, missing on this machine; fetch with --pull")


def _found(model: dict[str, Any]) -> str:
    """Return the folder that a recorded model was read from if it exists, else the model's name."""
    path = model.get("path")
    if isinstance(path, str) and Path(path).is_dir():
        return path
    recorded = _adapter_path(model)
    return str(model["name"]).removesuffix(f"+{recorded.name}" if recorded else "")


def _adapter(file: Path, model: dict[str, Any]) -> Path | None:
    """Return the folder of a recorded model's adapter, None if it had none.

    Raises:
        ModelError: the adapter is missing, or is another one now.
    """
    from blendin_models.errors import ModelError
    from blendin_models.loading.adapters import adapter_digest

    folder = _adapter_path(model)
    if folder is not None and adapter_digest(folder) != model["adapter"].get("sha256"):
        raise ModelError(f"{file} needs the adapter {folder} as it was then; it was changed since")
    return folder


def _adapter_path(model: dict[str, Any]) -> Path | None:
    adapter = model.get("adapter")
    path = adapter.get("path") if isinstance(adapter, dict) else None
    return Path(path) if isinstance(path, str) else None


@trace.command()
@click.argument("file", type=_EXISTING)
@click.option("--marks", is_flag=True, help="Use marks instead of colours.")
@quiet_option
def view(file: Path, marks: bool, quiet: bool) -> None:
    """Show the answer of a trace FILE, and which model decided each token; no model is loaded.

    Marks replace colours with --marks, NO_COLOR or TERM=dumb, and in a pipe.

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
    lines += [closing_line([step["alpha"] for step in recorded.steps], decided)]
    if overrides:
        lines += ["", "overrides (token, the base's choice → what was written):"]
        lines += [override_line(step) for step in overrides]
    Output().write_styled("\n".join([*lines, ""]))


def _about(recorded: RecordedRun, by_guide: bool) -> str:
    """Summarise models, settings and finish reason in a line."""
    from blendin_mlx.trace.records import guide_names

    run = recorded.run
    names = {"method": "method", "tau": "τ", "gate": "gate", "alpha": "α"}
    names |= {"temp": "temperature", "seed": "seed"}
    how = [f"{word} {run[key]}" for key, word in names.items() if run.get(key) is not None]
    ended = (recorded.end or {}).get("finish_reason", "cut off")
    models = f"{run['models']['base']['name']}, guided by {guide_names(run)}"
    wish = ", as the guide wished" if by_guide else ""
    return harmless(f"{models}; {', '.join([*how, f'end: {ended}'])}{wish}")


@trace.command()
@click.argument("files", nargs=-1, required=True, type=_EXISTING)
@click.option(
    "--output",
    "-o",
    type=FileToWrite(),
    help="The page to write.  [default: the first FILE with the extension .html]",
)
@quiet_option
def html(files: tuple[Path, ...], output: Path | None, quiet: bool) -> None:
    """Write a self-contained web page that shows the runs of trace FILES side by side.

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
