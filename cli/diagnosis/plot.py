"""Plot the results of ``blendin diagnose``; needs the ``plot`` extra."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .report import Report
from .verdict import WARNING_RATE, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MISSING = "--png draws with matplotlib: pip install 'blendin-mlx[plot]', or use --html"


def require_matplotlib() -> None:
    """Raise before the models are loaded if plots cannot be drawn.

    Raises:
        click.UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError(MISSING)


def draw(reports: Sequence[Report]) -> bytes:
    """Draw a PNG: the rate of each prompt with the interval of all, and the lengths of bursts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4 + 0.5 * len(reports)), layout="constrained")
    rates, bursts = figure.subplots(1, 2, width_ratios=(3, 2))
    draw_rates(rates, reports)
    draw_bursts(bursts, reports)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format="png")
    return drawn.getvalue()


def draw_rates(axes: Axes, reports: Sequence[Report]) -> None:
    """Draw the rate of each prompt, and the rate of all with its interval, a row per guide."""
    for place, report in enumerate(reports):
        axes.plot(report.rates, [place] * len(report.rates), "o", alpha=0.25, color=f"C{place}")
        axes.plot([report.low, report.high], [place] * 2, "-", linewidth=4, color=f"C{place}")
        axes.plot(report.rate, place, "D", color=f"C{place}", markeredgecolor="black")
    line = ""
    if any(report.threshold_applies for report in reports):
        axes.axvline(WARNING_RATE, linestyle="--", color="0.4")
        line = f", dashed {percent(WARNING_RATE)}"
    axes.set(xlim=(-0.02, 1.02), ylim=(len(reports) - 0.5, -0.5))
    axes.set(xlabel=f"intervention rate: ○ a prompt, ◇ all (95 %){line}")
    axes.set_yticks(range(len(reports)), [report.guide for report in reports], parse_math=False)


def draw_bursts(axes: Axes, reports: Sequence[Report]) -> None:
    """Draw a histogram of burst lengths, a colour per guide."""
    from matplotlib.ticker import MaxNLocator

    lengths = [report.cascades for report in reports]
    longest = max((max(each, default=1) for each in lengths), default=1)
    colors = [f"C{place}" for place in range(len(reports))]
    # The legend omits labels that begin with an underscore.
    labels = [f" {report.guide}" for report in reports]
    axes.hist(lengths, bins=[n + 0.5 for n in range(longest + 1)], color=colors, label=labels)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="tokens in a row with the guide asked", ylabel="how often")
    if len(reports) > 1:
        for text in axes.legend().get_texts():
            text.set_parse_math(False)
