"""What ``blendin diagnose`` measured as a picture; needs the ``plot`` extra."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import click

from .verdict import WARNING_RATE, Report

MISSING = "--png draws with matplotlib: pip install 'blendin-mlx[plot]', or use --html"


def require_matplotlib() -> None:
    """Say before the models are loaded that no picture can be drawn.

    Raises:
        click.UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError(MISSING)


def draw(reports: Sequence[Report], file: Path) -> None:
    """Rates of each prompt with the interval of all, and the lengths of bursts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4 + 0.5 * len(reports)), layout="constrained")
    rates, bursts = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, report in enumerate(reports):
        rates.plot(report.rates, [place] * len(report.rates), "o", alpha=0.25, color=f"C{place}")
        rates.plot([report.low, report.high], [place] * 2, "-", linewidth=4, color=f"C{place}")
        rates.plot(report.rate, place, "D", color=f"C{place}", markeredgecolor="black")
    rates.axvline(WARNING_RATE, linestyle="--", color="0.4")
    rates.set(xlim=(0, 1), ylim=(len(reports) - 0.5, -0.5))
    rates.set(xlabel="intervention rate: ○ a prompt, ◇ all (95 %), dashed 20 %")
    rates.set_yticks(range(len(reports)), [report.guide for report in reports], parse_math=False)
    lengths = [report.cascades for report in reports]
    longest = max((max(each, default=1) for each in lengths), default=1)
    bursts.hist(lengths, bins=[n + 0.5 for n in range(longest + 1)])
    bursts.set(xlabel="tokens in a row with the guide asked", ylabel="how often")
    figure.savefig(file, dpi=120, format="png")
