"""``blendin bench``: measure the speed of blending and drafting with a pair on this machine."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options.groups import pair_options
from .options.types import WeightedModel, Whole
from .pair_loading import guides_of, load_pair, named_pair
from .terminal.interrupts import unswallowed_interrupt
from .terminal.output import say, tell
from .terminal.quiet import quiet_option

if TYPE_CHECKING:
    from blendin_mlx.drafting.drafter import Draft
    from blendin_mlx.model import Pair

PROMPT = "Give me three tips for sleeping well."
# The programs that are compared: a method and a way of drafting.
PROGRAMS: dict[str, tuple[str, Draft]] = {
    "base": ("base", "off"),
    "plain": ("blendin", "off"),
    "draft": ("blendin", "auto"),
}


@click.command()
@click.argument("prompt", default=PROMPT)
@pair_options
@click.option("--rounds", type=Whole(min=1), default=5, show_default=True)
@click.option(
    "--max-tokens", "-m", type=Whole(min=2), default=48, show_default=True,
    help="Tokens of each answer.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
@quiet_option
def bench(
    prompt: str,
    pair: str | None,
    base: str | None,
    aligned: tuple[WeightedModel, ...],
    base_adapter: Path | None,
    aligned_adapter: Path | None,
    rounds: int,
    max_tokens: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Time the base alone, the blend, and the blend with drafts, in turns.

    Compare the ratios; absolute speeds depend on the machine and its load.

    \b
    Examples:
      blendin bench
      blendin bench --rounds 3 --json | jq .ratios
    """
    named = named_pair(pair, base, aligned, aligned_adapter)
    with unswallowed_interrupt():
        from blendin_models.pair import PairSpec

        spec = PairSpec(
            pair=named,
            base=base,
            **guides_of(aligned),
            base_adapter=base_adapter,
            aligned_adapter=aligned_adapter,
        )
        loaded = load_pair(spec, quiet)
    report = measure_programs(loaded, prompt, rounds, max_tokens, quiet)
    if as_json:
        tell(json.dumps(report))
        return
    for name, ratio in report["ratios"].items():
        tell(f"{name:<14} {ratio:.2f} x")
    speeds = ", ".join(f"{name} {speed:.2f}" for name, speed in report["tokens_per_s"].items())
    tell(f"tokens/s       {speeds}")
    tell(f"a guide pass   {report['guide_cost']:.2f} base passes")


def measure_programs(
    pair: Pair, prompt: str, rounds: int, tokens: int, quiet: bool = False
) -> dict[str, Any]:
    """Return medians over the rounds, each of which runs every program once."""
    from blendin_mlx.drafting.drafter import Drafter
    from blendin_mlx.generation import stream_generate
    from blendin_models.pass_costs import kept_costs

    costs = kept_costs(pair)
    speeds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}", quiet)
        for name, (method, draft) in PROGRAMS.items():
            drafter = Drafter(draft, costs=costs)
            *_, last = stream_generate(
                pair, prompt, method=method, max_tokens=tokens, draft=drafter
            )
            speeds[name].append(last.statistics.tokens_per_s)
    median = {name: statistics.median(found) for name, found in speeds.items()}
    return {
        "ratios": {
            "draft / base": median["draft"] / median["base"],
            "draft / plain": median["draft"] / median["plain"],
            "plain / base": median["plain"] / median["base"],
        },
        "tokens_per_s": median,
        "guide_cost": costs.ask,
        "rounds": rounds,
        "models": {"base": pair.base.name, "aligned": pair.guide_name},
    }
