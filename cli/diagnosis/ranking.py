"""Which of two guides fits better, and whether the answers can tell: guides in order.

Guides answer the same prompts, so that they are compared prompt by prompt: a difference counts
where its 95 % interval, prompts drawn anew, leaves 0 out. Else it is a tie, and the next of
:data:`CRITERIA` decides. Where none does, the lower measured rate comes first, and it is said that
this tells nothing.
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

# From the most telling on, by the names that reports have for them; less is better in all.
CRITERIA: Mapping[str, Callable[[Count], Part]] = {
    "rate": lambda one: (one.asked, one.tokens),
    "base_ends_lost": lambda one: (one.base_end_lost, 1),
    "hit_limit": lambda one: (one.hit_limit, 1),
}
WON = {
    "base_ends_lost": "misses fewer endings of the base",
    "hit_limit": "runs into the length limit less often",
}
ORDER = (
    "asked at fewer tokens; where rates cannot be told apart, fewer missed endings of the base, "
    "then fewer answers at the length limit"
)


@dataclass(frozen=True)
class Comparison:
    """Two guides over the prompts that both answered.

    Attributes:
        first, second: their names.
        prompts: how many, and ``all_prompts`` whether neither answered more.
        shares: by criterion, what was measured of the first and of the second.
        differences: by criterion, how much more the second has of it.
    """

    first: str
    second: str
    prompts: int
    all_prompts: bool
    shares: Mapping[str, tuple[float, float]]
    differences: Mapping[str, Difference]

    @property
    def decided_by(self) -> str | None:
        """The first criterion in which they differ, None where the answers do not tell."""
        if self.prompts < FEWEST:
            return None
        return next((name for name, found in self.differences.items() if found.is_real), None)

    @property
    def is_reversed(self) -> bool:
        """Whether the second fits better."""
        return self.decided_by is not None and self.differences[self.decided_by].high < 0

    def as_json(self) -> dict[str, Any]:
        """All of it, in shares of 1."""
        found = {name: asdict(one) for name, one in self.differences.items()}
        about = {"guide": self.second, "prompts": self.prompts, "decided_by": self.decided_by}
        return {**about, "differences": found, "text": self.text}

    @property
    def text(self) -> str:
        """In a line, for the better one as the first."""
        over = "" if self.all_prompts else f" (over the {self.prompts} prompts that both answered)"
        return f"{self._text()}{over}"

    def _text(self) -> str:
        both = f"{self.first} and {self.second}"
        if self.prompts < FEWEST:
            few = f"{counted(self.prompts, 'prompt')} cannot tell them apart, it takes {FEWEST}"
            return f"{both}: {few}; {self.first} is asked {self._less()}"
        rates = self.differences["rate"]
        spread = f"{_points(rates.low)} to {_points(rates.high)}"
        decided_by = self.decided_by
        if decided_by == "rate":
            return f"{self.first} before {self.second}: asked {self._less()} ({spread})"
        told = f"{both}: the rates cannot be told apart ({spread} points)"
        if decided_by is None:
            return f"{told}, nor can lost ends and the length limit"
        less, more = map(percent, self.shares[decided_by])
        return f"{told}; {self.first} {WON[decided_by]}, {less} against {more}"

    def _less(self) -> str:
        value = self.differences["rate"].value
        if value == 0:
            return "as often"
        word = "fewer" if value > 0 else "more"
        return f"at {_points(abs(value))} points {word} tokens"


def _points(value: float) -> str:
    """Percentage points; never a zero with a sign."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def compared(first: Report, second: Report) -> Comparison:
    """Two guides over the prompts that both answered."""
    count = min(len(first.counts), len(second.counts))
    shares, differences = {}, {}
    for name, part in CRITERIA.items():
        one, other = ([part(n) for n in each.counts[:count]] for each in (first, second))
        shares[name] = share(one), share(other)
        differences[name] = difference(one, other)
    alike = len(first.counts) == len(second.counts)
    return Comparison(first.guide, second.guide, count, alike, shares, differences)


def ranked(reports: Sequence[Report]) -> list[Report]:
    """The guides in order, the best first.

    Ties do not pass on: A and B, B and C may be alike while A and C are not. So each guide, the
    lowest rate first, is put in from the end, and moves up past the neighbour that it beats until
    there is none. Whoever stands directly behind another does not beat it, and the order depends
    on the figures alone, but for guides whose rates are equal.
    """
    order: list[Report] = []
    for report in sorted(reports, key=lambda each: each.rate):
        place = len(order)
        while place and compared(order[place - 1], report).is_reversed:
            place -= 1
        order.insert(place, report)
    return order


def comparisons(order: Sequence[Report]) -> list[Comparison]:
    """Of each guide with the next one."""
    return [compared(one, other) for one, other in pairwise(order)]


def as_json(order: Sequence[Report]) -> list[dict[str, Any]]:
    """Reports, ranked, with their verdicts and how each stands to the next."""
    against = [*(one.as_json() for one in comparisons(order)), None]
    return [
        {"rank": rank, **report.as_json(), "verdict": verdict(report), "against_next": told}
        for rank, (report, told) in enumerate(zip(order, against, strict=True), 1)
    ]
