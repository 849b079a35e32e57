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
class Report:
    """A guide, as its answers show it. Rates are shares of tokens, or of answers."""

    guide: str
    prompts: int
    rate: float
    low: float
    high: float
    override_rate: float
    longest_cascade: int
    mean_cascade: float
    hit_limit: float
    base_hit_limit: float
    base_ends_lost: float
    guide_ends_lost: float
    base_confidence: float
    guide_confidence: float | None
    exact_mass: float | None
    tokens_per_s: float
    base_tokens_per_s: float
    peak_bytes: int

    def as_json(self) -> dict[str, Any]:
        """All figures and the verdict."""
        return {**asdict(self), "verdict": verdict(self)}


def summarise(
    guide: str, answers: Sequence[Blended], base: Sequence[tuple[bool, float]], peak_bytes: int = 0
) -> Report:
    """The report of a guide.

    Args:
        answers: blended ones, at least one.
        base: of the base alone, whether each answer hit the limit, and its tokens/s.
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
        override_rate=sum(answer.overrides for answer in answers) / tokens,
        longest_cascade=max(runs, default=0),
        mean_cascade=fmean(runs) if runs else 0.0,
        hit_limit=fmean(answer.hit_limit for answer in answers),
        base_hit_limit=fmean(limited for limited, _ in base),
        base_ends_lost=fmean(answer.base_ends_lost > 0 for answer in answers),
        guide_ends_lost=fmean(answer.guide_ends_lost > 0 for answer in answers),
        base_confidence=fmean(answer.base_confidence for answer in answers),
        guide_confidence=fmean(sure) if sure else None,
        exact_mass=fmean(exact) if exact else None,
        tokens_per_s=fmean(answer.tokens_per_s for answer in answers),
        base_tokens_per_s=fmean(speed for _, speed in base),
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
