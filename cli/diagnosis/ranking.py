"""Rank guides by paired comparisons.

Guides answer the same prompts, so they are compared prompt by prompt: a difference counts if its
95 % bootstrap interval excludes 0. Otherwise it is a tie, and the next of :data:`CRITERIA` decides.
If none does, the lower rate comes first, and the output says that the difference is not
significant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from ..terminal.output import counted
from .bootstrap import Difference, Part, difference, share
from .report import FEWEST, Count, Report
from .verdict import percent, verdict

# In order of importance, by the names of the report's fields; less is better in all.
_CRITERIA: Mapping[str, Callable[[Count], Part]] = {
    "rate": lambda one: (one.asked, one.tokens),
    "base_ends_lost": lambda one: (one.base_end_lost, 1),
    "hit_limit": lambda one: (one.hit_limit, 1),
}
_WON = {
    "base_ends_lost": "misses fewer endings of the base",
    "hit_limit": "runs into the length limit less often",
}
ORDER = (
    "fewer interventions first; if the rates tie, fewer missed endings of the base, then fewer "
    "answers at the length limit"
)


@dataclass(frozen=True)
class Comparison:
    """Two guides compared over the prompts that both answered.

    Attributes:
        first: name of the first guide.
        second: name of the second guide.
        prompts: number of prompts that both answered.
        all_prompts: True if neither answered more.
        shares: by criterion, the share of the first and of the second guide.
        differences: by criterion, how much larger the second guide's share is.
    """

    first: str
    second: str
    prompts: int
    all_prompts: bool
    shares: Mapping[str, tuple[float, float]]
    differences: Mapping[str, Difference]

    @property
    def decided_by(self) -> str | None:
        """The first criterion with a significant difference, or None."""
        if self.prompts < FEWEST:
            return None
        return next((name for name, found in self.differences.items() if found.is_real), None)

    @property
    def is_reversed(self) -> bool:
        """True if the second guide is better."""
        return self.decided_by is not None and self.differences[self.decided_by].high < 0

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as JSON; shares are from 0 to 1."""
        found = {name: asdict(one) for name, one in self.differences.items()}
        about = {"guide": self.second, "prompts": self.prompts, "decided_by": self.decided_by}
        return {**about, "differences": found, "text": self.text}

    @property
    def text(self) -> str:
        """A line of text; the first guide must be the better one."""
        over = "" if self.all_prompts else f" (over the {self.prompts} prompts that both answered)"
        return f"{self._text()}{over}"

    def _text(self) -> str:
        both = f"{self.first} and {self.second}"
        if self.prompts < FEWEST:
            few = f"{counted(self.prompts, 'prompt')} cannot tell them apart"
            needed = f"(at least {FEWEST} are needed)"
            return f"{both}: {few} {needed}; {self.first} is asked {self._less()}"
        rates = self.differences["rate"]
        spread = f"{_points(rates.low)} to {_points(rates.high)}"
        decided_by = self.decided_by
        if decided_by == "rate":
            return f"{self.first} before {self.second}: asked {self._less()} ({spread})"
        told = f"{both}: no significant difference in rates ({spread} points)"
        if decided_by is None:
            return f"{told}, missed endings or answers at the length limit"
        less, more = map(percent, self.shares[decided_by])
        return f"{told}; {self.first} {_WON[decided_by]}, {less} against {more}"

    def _less(self) -> str:
        value = self.differences["rate"].value
        if value == 0:
            return "as often"
        word = "fewer" if value > 0 else "more"
        return f"at {_points(abs(value))} points {word} tokens"


def _points(value: float) -> str:
    """Format a share in percentage points, never as -0.0."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def compared(first: Report, second: Report) -> Comparison:
    """Compare two guides over the prompts that both answered."""
    count = min(len(first.counts), len(second.counts))
    shares, differences = {}, {}
    for name, part in _CRITERIA.items():
        one, other = ([part(n) for n in each.counts[:count]] for each in (first, second))
        shares[name] = share(one), share(other)
        differences[name] = difference(one, other)
    alike = len(first.counts) == len(second.counts)
    return Comparison(first.guide, second.guide, count, alike, shares, differences)


def ranked(reports: Sequence[Report]) -> list[Report]:
    """Return the guides in order, the best first.

    Ties are not transitive: A and B, B and C may tie while A and C do not. So the guides, lowest
    rate first, are inserted at the end, and move up past each neighbour that they beat. No guide
    beats the one ranked directly above it, and the result does not depend on the order of
    `reports`, except for guides with equal rates.
    """
    order: list[Report] = []
    for report in sorted(reports, key=lambda each: each.rate):
        place = len(order)
        while place and compared(order[place - 1], report).is_reversed:
            place -= 1
        order.insert(place, report)
    return order


def comparisons(order: Sequence[Report]) -> list[Comparison]:
    """Compare each guide with the next one."""
    return [compared(one, other) for one, other in pairwise(order)]


def as_json(order: Sequence[Report]) -> list[dict[str, Any]]:
    """Return ranked reports as JSON, with verdicts, each compared with the next."""
    against = [*(one.as_json() for one in comparisons(order)), None]
    return [
        {"rank": rank, **report.as_json(), "verdict": verdict(report), "against_next": told}
        for rank, (report, told) in enumerate(zip(order, against, strict=True), 1)
    ]
