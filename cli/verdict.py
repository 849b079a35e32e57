"""What many answers tell about a guide: rates with their uncertainty, bursts, ends; in words.

The line of 20 % and the kinds of failure are those of the paper; its figures (see
``benchmarks/paper.py``) warn, they do not decide.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

WARNING_RATE = 0.20
RESAMPLES = 1000
STABLE = 0.02  # half the width of the interval at which more prompts would tell little
FEWEST = 8


@dataclass(frozen=True)
class Blended:
    """One blended answer, counted.

    Attributes:
        asked: for each token, whether the guide decided with the base.
        base_ends_lost, guide_ends_lost: positions where the base's (the guide's) top choice was to
            end, and the answer went on.
        base_confidence: mean probability of the base's top token; ``guide_confidence`` likewise,
            where it was asked.
        hit_limit: the answer ended with --max-tokens.
    """

    asked: tuple[bool, ...]
    overrides: int
    base_ends_lost: int
    guide_ends_lost: int
    base_confidence: float
    guide_confidence: float | None
    exact_mass: float | None
    hit_limit: bool
    tokens_per_s: float


@dataclass(frozen=True)
class Alone:
    """An answer of one model alone."""

    hit_limit: bool
    tokens_per_s: float


@dataclass(frozen=True)
class Report:
    """A guide, as its answers show it. Rates are shares of tokens, or of answers.

    Attributes:
        rates: the intervention rate of each prompt; ``rate`` is that of all tokens together.
        low, high: the 95 % interval of ``rate``.
        cascades: lengths of the runs of interventions, in tokens.
    """

    guide: str
    prompts: int
    rate: float
    low: float
    high: float
    rates: tuple[float, ...]
    override_rate: float
    cascades: tuple[int, ...]
    hit_limit: float
    base_hit_limit: float
    guide_hit_limit: float
    base_ends_lost: float
    guide_ends_lost: float
    base_confidence: float
    guide_confidence: float | None
    exact_mass: float | None
    tokens_per_s: float
    base_tokens_per_s: float
    guide_tokens_per_s: float
    peak_bytes: int

    @property
    def longest_cascade(self) -> int:
        return max(self.cascades, default=0)

    @property
    def mean_cascade(self) -> float:
        return fmean(self.cascades) if self.cascades else 0.0

    def as_json(self) -> dict[str, Any]:
        """All figures and the verdict."""
        bursts = {"longest_cascade": self.longest_cascade, "mean_cascade": self.mean_cascade}
        return {**asdict(self), **bursts, "verdict": verdict(self)}


def summarise(
    guide: str,
    answers: Sequence[Blended],
    base: Sequence[Alone],
    aligned: Sequence[Alone],
    peak_bytes: int = 0,
) -> Report:
    """The report of a guide.

    Args:
        answers: blended ones, at least one.
        base, aligned: those of either model alone, to the same prompts.
    """
    low, high = interval(answers)
    tokens = max(1, sum(len(answer.asked) for answer in answers))
    runs = [run for answer in answers for run in cascades(answer.asked)]
    sure = [a.guide_confidence for a in answers if a.guide_confidence is not None]
    exact = [a.exact_mass for a in answers if a.exact_mass is not None]
    return Report(
        guide=guide,
        prompts=len(answers),
        rate=rate(answers),
        low=low,
        high=high,
        rates=tuple(rate([answer]) for answer in answers),
        override_rate=sum(answer.overrides for answer in answers) / tokens,
        cascades=tuple(runs),
        hit_limit=fmean(answer.hit_limit for answer in answers),
        base_hit_limit=fmean(answer.hit_limit for answer in base),
        guide_hit_limit=fmean(answer.hit_limit for answer in aligned),
        base_ends_lost=fmean(answer.base_ends_lost > 0 for answer in answers),
        guide_ends_lost=fmean(answer.guide_ends_lost > 0 for answer in answers),
        base_confidence=fmean(answer.base_confidence for answer in answers),
        guide_confidence=fmean(sure) if sure else None,
        exact_mass=fmean(exact) if exact else None,
        tokens_per_s=fmean(answer.tokens_per_s for answer in answers),
        base_tokens_per_s=fmean(answer.tokens_per_s for answer in base),
        guide_tokens_per_s=fmean(answer.tokens_per_s for answer in aligned),
        peak_bytes=peak_bytes,
    )


def cascades(asked: Sequence[bool]) -> list[int]:
    """Lengths of the runs of interventions."""
    return [len(list(run)) for was_asked, run in groupby(asked) if was_asked]


def rate(answers: Sequence[Blended]) -> float:
    """Interventions over tokens, all answers together."""
    tokens = sum(len(answer.asked) for answer in answers)
    return sum(sum(answer.asked) for answer in answers) / tokens if tokens else 0.0


def interval(answers: Sequence[Blended]) -> tuple[float, float]:
    """A 95 % interval of the rate: prompts drawn anew, as tokens of one answer hang together."""
    draw = random.Random(0)
    rates = sorted(rate(draw.choices(answers, k=len(answers))) for _ in range(RESAMPLES))
    return rates[int(0.025 * RESAMPLES)], rates[int(0.975 * RESAMPLES) - 1]


def is_stable(answers: Sequence[Blended]) -> bool:
    """Whether more prompts would tell little about the rate."""
    if len(answers) < FEWEST:
        return False
    low, high = interval(answers)
    return high - low <= 2 * STABLE


def rows(report: Report) -> dict[str, str]:
    """The figures as words, for a table."""
    guide = "-" if report.guide_confidence is None else f"{report.guide_confidence:.2f}"
    exact = "-" if report.exact_mass is None else f"{report.exact_mass:.2f}"
    return {
        "prompts": f"{report.prompts}",
        "interventions": f"{report.rate:.1%} of the tokens ({report.low:.1%} to {report.high:.1%})",
        "overrides": f"{report.override_rate:.1%} of the tokens",
        "bursts": f"{report.mean_cascade:.1f} tokens, the longest {report.longest_cascade}",
        "length limit": f"{report.hit_limit:.0%} of the answers; "
        f"base alone {report.base_hit_limit:.0%}, guide alone {report.guide_hit_limit:.0%}",
        "ends lost": f"the base's in {report.base_ends_lost:.0%} of the answers, "
        f"the guide's in {report.guide_ends_lost:.0%}",
        "confidence": f"base {report.base_confidence:.2f}, guide {guide}",
        "exact mass": exact,
        "speed": f"{report.tokens_per_s:.1f} tokens/s; base alone {report.base_tokens_per_s:.1f}, "
        f"guide alone {report.guide_tokens_per_s:.1f}",
        "memory": f"{report.peak_bytes / 1e9:.2f} GB at most",
    }


def verdict(report: Report) -> list[str]:
    """What to make of it, the evidence with it."""
    lines = [_of_rate(report)]
    if report.mean_cascade >= 3:
        lines.append(
            f"interventions come in bursts of {report.mean_cascade:.1f} tokens on average (longest "
            f"{report.longest_cascade}): one unsure token makes the next ones unsure"
        )
    if report.hit_limit > report.base_hit_limit + 0.1:
        lines.append(
            f"{report.hit_limit:.0%} of the answers ran into the length limit, "
            f"{report.base_hit_limit:.0%} of the base's own: try --stop-policy base or either"
        )
    if report.base_ends_lost > 0.1:
        lines.append(
            f"in {report.base_ends_lost:.0%} of the answers the base wanted to end and was not let"
        )
    lines.append(
        f"{report.prompts} prompts say nothing of quality: a confidently wrong guide looks as good"
    )
    return lines


def _of_rate(report: Report) -> str:
    measured = f"the guide is asked at {report.rate:.1%} of the tokens"
    spread = f"{report.low:.1%} to {report.high:.1%}"
    if report.low > WARNING_RATE:
        return f"a warning: {measured} ({spread}); above 20 % the paper saw results drop"
    if report.high < WARNING_RATE:
        return f"no warning: {measured} ({spread}), below the paper's 20 %"
    return f"undecided: {measured} ({spread}), on both sides of 20 %; try more prompts"


def ranked(reports: Sequence[Report]) -> list[Report]:
    """The guide that is asked least first; where they overlap, the one that loses fewer ends."""
    return sorted(reports, key=lambda r: (round(r.rate, 2), r.base_ends_lost, r.hit_limit))
