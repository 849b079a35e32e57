"""Interpret the statistics of a guide in words.

The rate of 20 % and the kinds of failure are the paper's. Its figures (see ``benchmarks/paper.py``)
are a warning, not a verdict; it counts words where tokens are counted here.
"""

from __future__ import annotations

from ..terminal.layout import in_bytes
from ..terminal.output import counted
from .report import FEWEST, PAPER_TAU, Report

WARNING_RATE = 0.20


def percent(share: float, digits: int = 0) -> str:
    """Format a share as a percentage: ``31.4 %``."""
    return f"{100 * share:.{digits}f} %"


def rows(report: Report) -> dict[str, str]:
    """Return the figures formatted for a table, by name."""
    guide = "-" if report.guide_confidence is None else f"{report.guide_confidence:.2f}"
    exact = "-" if report.exact_mass is None else f"{report.exact_mass:.2f}"
    return {
        "prompts": f"{report.prompts}",
        "interventions": f"{percent(report.rate, 1)} of the tokens ({_spread(report)})",
        "overrides": f"{percent(report.override_rate, 1)} of the tokens",
        "bursts": f"{report.mean_cascade:.1f} tokens, the longest {report.longest_cascade}",
        "length limit": f"{percent(report.hit_limit)} of the answers; base alone "
        f"{percent(report.base_hit_limit)}, guide alone {percent(report.guide_hit_limit)}",
        "missed endings": f"the base's in {percent(report.base_ends_lost)} of the answers, the "
        f"guide's in {percent(report.guide_ends_lost)} (by STOP; by turn marker if taken back)",
        "made endings": f"the guide ended {percent(report.guide_ended)} of the answers",
        "confidence": f"base {report.base_confidence:.2f}, guide {guide}",
        "exact mass": exact,
        "speed": f"{report.tokens_per_s:.1f} tokens/s; base alone {report.base_tokens_per_s:.1f}, "
        f"guide alone {report.guide_tokens_per_s:.1f}",
        "memory": f"{in_bytes(report.peak_bytes)} at most",
    }


def verdict(report: Report) -> list[str]:
    """Return the remarks on a guide, each with its evidence."""
    lines = [_of_rate(report)]
    if report.mean_cascade >= 3:
        lines.append(
            f"interventions come in bursts of {report.mean_cascade:.1f} tokens on average (longest "
            f"{report.longest_cascade}): one unsure token makes the next ones unsure"
        )
    if report.hit_limit > report.base_hit_limit + 0.1:
        lines.append(
            f"{percent(report.hit_limit)} of the answers ran into the length limit, "
            f"against {percent(report.base_hit_limit)} of the base's own: try --stop-policy base"
        )
    if report.base_ends_lost > 0.1:
        lines.append(
            f"in {percent(report.base_ends_lost)} of the answers the base wanted to end and the "
            "guide kept it from ending"
        )
    lines.append(
        f"the answers to {counted(report.prompts, 'prompt')} were not graded: a confidently wrong "
        "guide looks as good; blendin tune judges by good answers"
    )
    return lines


def _of_rate(report: Report) -> str:
    measured = f"the guide is asked at {percent(report.rate, 1)} of the tokens ({_spread(report)})"
    line = f"the paper's {percent(WARNING_RATE)} of the words"
    if not report.threshold_applies:
        none = f"and {report.method} has no tau on the confidence"
        why = none if report.tau is None else f"not for {report.tau:g}"
        return f"not judged: {measured}; {line} hold for tau {PAPER_TAU:g}, {why}"
    if report.prompts < FEWEST:
        return f"undecided: too few prompts (at least {FEWEST} are needed); {measured}"
    if report.low > WARNING_RATE:
        return f"a warning: {measured}, above {line}, where results dropped"
    if report.high < WARNING_RATE:
        return f"no warning: {measured}, below {line}"
    return f"undecided: {measured}, on both sides of {line}; try more prompts"


def _spread(report: Report) -> str:
    return f"{percent(report.low, 1)} to {percent(report.high, 1)}"
