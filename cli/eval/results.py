"""Results of the harness: written in its own form, printed as its own tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .counts import Count, total

if TYPE_CHECKING:
    from lm_eval.loggers import EvaluationTracker

    from .model import BlendinLM

Results = dict[str, Any]
Samples = Mapping[str, list[dict[str, Any]]]


def check_output(path: Path) -> None:
    """Refuse a place that results cannot be written to, before anything is answered.

    Raises:
        click.BadParameter: naming it.
    """
    folder = path.parent if path.suffix == ".json" else path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise click.BadParameter(
            f"cannot write to {folder}: {error.strerror}", param_hint="--output"
        ) from None


def add_rates(results: Results, samples: Samples, lm: BlendinLM) -> None:
    """Add to results how often the guide was asked, by task as ``blend`` and in all."""
    results["blend"] = {
        task: _counted(lm, {sample["doc_id"]: sample for sample in asked}).as_json()
        for task, asked in samples.items()
    }
    results["config"] |= {"model": "blendin", **lm.get_model_info()}


def _counted(lm: BlendinLM, asked: Mapping[int, dict[str, Any]]) -> Count:
    return total(
        lm.counts.of(lm.cache_hook, request)
        for sample in asked.values()
        for request in sample["arguments"]
    )


def make_tracker(path: Path | None) -> EvaluationTracker:
    """Return what writes results in the harness's form, if they are to be written."""
    from lm_eval.loggers import EvaluationTracker

    return EvaluationTracker(output_path=None if path is None else str(path))


def save(
    tracker: EvaluationTracker, named: Mapping[str, Any], results: Results, samples: Samples
) -> list[Path]:
    """Write results, and the samples of each task; return the files.

    Args:
        tracker: it has the path.
        named: pair, method and options, which name the folder.
        results: of the harness.
        samples: by task, maybe none.

    Raises:
        click.ClickException: they could not be written.
    """
    from lm_eval.utils import sanitize_model_name

    name = "-".join(Path(str(value)).name for value in named.values())
    config = tracker.general_config_tracker
    config.model_source, config.model_name = "blendin", name
    config.model_name_sanitized = sanitize_model_name(name)
    tracker.save_results_aggregated(results=results, samples=samples)
    if not hasattr(tracker, "date_id"):  # the harness logs what went wrong, and goes on
        raise _unwritten(tracker)
    for task, asked in samples.items():
        tracker.save_results_samples(task_name=task, samples=asked)
    path = Path(tracker.output_path)
    folder = path.parent if path.suffix == ".json" else path
    written = sorted(folder.rglob(f"*{tracker.date_id}.json*"))
    if len(written) != 1 + len(samples):
        raise _unwritten(tracker)
    return written


def _unwritten(tracker: EvaluationTracker) -> click.ClickException:
    return click.ClickException(
        f"--output {tracker.output_path}: not all results could be written; run it again, "
        "as all responses are kept"
    )


def as_text(results: Results) -> str:
    """Return the tables of the harness, and how often the guide was asked."""
    from lm_eval.utils import make_table

    tables = [make_table(results)]
    if results.get("groups"):
        tables.append(make_table(results, "groups"))
    rates = [_rate(task, counts) for task, counts in results["blend"].items()]
    return "\n".join([*tables, *rates, ""])


def _rate(task: str, counts: Mapping[str, Any]) -> str:
    if counts["intervention_rate"] is None:
        return f"{task}: nothing was scored or written"
    asked, of = counts["interventions"], counts["tokens"]
    return f"{task}: guide asked at {asked:,} of {of:,} tokens ({counts['intervention_rate']:.1%})"
