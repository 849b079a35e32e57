"""``blendin eval``: tasks of lm-evaluation-harness, answered by a pair and any method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import INTERRUPTED
from ..options.groups import batch_option, evaluating_options
from ..options.settings import Settings
from ..options.types import Whole
from ..pair_loading import named_pair
from ..session import Session
from ..terminal.interrupts import interruptible
from ..terminal.output import Output, say
from ..terminal.quiet import quiet_option
from .harness import mute_children, prepare, require_harness
from .kept import close, kept_file, use_cache
from .results import Results, add_rates, as_text, check_output, make_tracker, save
from .tasks import load_tasks, reason

if TYPE_CHECKING:
    from .model import BlendinLM


@click.command("eval")
@click.option("--tasks", required=True, metavar="A,B", help="Tasks, groups or patterns, or files.")
@evaluating_options
@click.option(
    "--include-path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder with tasks of your own.",
)
@click.option("--limit", type=Whole(min=1), help="The first questions of each task only.")
@click.option("--num-fewshot", type=Whole(min=0), help="Examples before each question.")
@click.option(
    "--apply-chat-template",
    is_flag=True,
    help="Ask as in a chat: each model reads its own template, as in generate.",
)
@batch_option("1")
@click.option("--fetch", is_flag=True, help="Fetch data sets that are not on this machine.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.json",
    help="Write the results in the harness's own form.",
)
@click.option("--log-samples", is_flag=True, help="With --output: each question and response too.")
@quiet_option
def evaluate(
    tasks: str,
    settings: Settings,
    include_path: Path | None,
    limit: int | None,
    num_fewshot: int | None,
    apply_chat_template: bool,
    batch: int | None,
    fetch: bool,
    output: Path | None,
    log_samples: bool,
    quiet: bool,
) -> int:
    """Evaluate a pair by tasks of a harness; needs the eval extra.

    The tasks are those of lm-evaluation-harness. Both models read texts as the tasks write them;
    with --apply-chat-template each reads its own template. Responses are kept: after Ctrl-C the
    same command goes on. Nothing is fetched without --fetch.

    \b
    Examples:
      blendin eval --tasks openbookqa,piqa --fetch --output results
      blendin eval --tasks mine --include-path tasks --method nudging --tau 0.3
      blendin eval --tasks gsm8k --fetch --apply-chat-template --limit 50 --batch auto
    """
    require_harness("blendin eval")
    names = _names(tasks)
    if log_samples and output is None:
        raise click.UsageError("--log-samples writes beside the results: pass --output too")
    if output is not None:
        check_output(output)
    prepare(fetch)
    named, tracker = _named(settings), make_tracker(output)
    options: dict[str, Any] = {
        **load_tasks(names, include_path),
        "limit": limit,
        "num_fewshot": num_fewshot,
        "apply_chat_template": apply_chat_template,
        "fewshot_as_multiturn": apply_chat_template,
        "system_instruction": settings.system,
        "evaluation_tracker": tracker,
        "model_args": named,
    }
    session = Session(settings, quiet)
    try:
        results, samples = _evaluated(session, batch, options, quiet)
    except KeyboardInterrupt:
        say("what was answered is kept; run it again to go on", quiet)
        return INTERRUPTED
    files = save(tracker, named, results, samples if log_samples else {}) if output else []
    Output().write(as_text(results))
    for file in files:
        say(f"wrote {file}", quiet)
    return 0


def _names(tasks: str) -> list[str]:
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("it names no task", param_hint="--tasks")
    return names


def _evaluated(
    session: Session, batch: int | None, options: dict[str, Any], quiet: bool
) -> tuple[Results, dict[str, list[dict[str, Any]]]]:
    """Let the harness ask; return its results, with intervention rates, and its samples.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        click.ClickException: the harness, or a task, fails.
    """
    from .model import BlendinLM

    with interruptible() as interrupt:
        lm = BlendinLM(session, batch, interrupt, quiet)
        try:
            results = _answered(lm, kept_file(session), options)
            samples = results.pop("samples")
            add_rates(results, samples, lm)
        finally:
            close(lm)
    return results, samples


def _answered(lm: BlendinLM, kept: Path, options: dict[str, Any]) -> Results:
    """Return what the harness makes of the answers; its own errors become one line."""
    from lm_eval import simple_evaluate

    from blendin_mlx.errors import BlendinError

    try:
        with mute_children():
            results: Results = simple_evaluate(model=lm, use_cache=use_cache(kept), **options)
    except (BlendinError, click.ClickException, OSError):
        raise
    except Exception as error:
        raise click.ClickException(f"the harness cannot go on: {reason(error)}") from error
    return results


def _named(settings: Settings) -> dict[str, Any]:
    """Return what names the model in results: its pair, its method and the method's options."""
    pair = named_pair(settings.pair, settings.base, settings.aligned)
    models = {"base": settings.base, "aligned": settings.aligned, "reference": settings.reference}
    numbers = {name: getattr(settings, name) for name in ("tau", "alpha", "lambda_", "beta")}
    given = {"pair": pair, **models, "method": settings.method, **numbers}
    return {name.rstrip("_"): value for name, value in given.items() if value is not None}
