"""Render the results of ``blendin diagnose`` as a web page, guides side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..terminal.web_pages import clean, render
from .ranking import ORDER, comparisons
from .report import Report
from .verdict import WARNING_RATE, rows, verdict

WIDTH = 600.0
_LONGEST = 12  # the last bar counts bursts of this many tokens or more


def page(reports: Sequence[Report]) -> str:
    """Render the page; ``reports`` are at least one, the best guide first."""
    names = [clean(report.guide) for report in reports]
    facts = [rows(report) for report in reports]
    return render(
        __package__,
        "page.html",
        names=names,
        order=ORDER,
        against=[_words(one.text) for one in comparisons(reports)],
        facts=[(name, [_words(each[name]) for each in facts]) for name in facts[0]],
        verdicts=[
            (name, [_words(line) for line in verdict(report)])
            for name, report in zip(names, reports, strict=True)
        ],
        strips=[
            (name, _strip(report), _bursts(report))
            for name, report in zip(names, reports, strict=True)
        ],
        line=WIDTH * WARNING_RATE if any(report.threshold_applies for report in reports) else None,
        longest=_LONGEST,
    )


def _words(text: str) -> str:
    """Return text for HTML, with a no-break space before percent signs."""
    return clean(text).replace(" %", "\u00a0%")


def _strip(report: Report) -> dict[str, Any]:
    """Return the positions of a guide's rates on a line from 0 to 1, in pixels."""
    return {
        "dots": [round(WIDTH * rate, 1) for rate in report.rates],
        "rate": round(WIDTH * report.rate, 1),
        "low": round(WIDTH * report.low, 1),
        "high": round(WIDTH * report.high, 1),
    }


def _bursts(report: Report) -> list[tuple[int, int, float]]:
    """Return length, count and height (0 to 1) of each bar of the histogram of burst lengths."""
    counts = Counter(min(length, _LONGEST) for length in report.cascades)
    tallest = max(counts.values(), default=1)
    return [(n, counts[n], counts[n] / tallest) for n in range(1, _LONGEST + 1)]
