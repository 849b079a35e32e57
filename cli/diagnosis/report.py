"""What many answers tell about a guide in figures: rates with their uncertainty, bursts, ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from . import bootstrap

PAPER_TAU = 0.4  # the gate of the answers whose rates the paper gives
_STABLE = 0.02  # half the width of the interval at which more prompts would tell little
FEWEST = 8  # prompts; fewer say nothing about how much they differ


@dataclass(frozen=True)
class Blended:
    """One blended answer, counted.

    Attributes:
        asked: for each token, whether the guide decided with the base.
        base_ends_lost: positions where the base's top choice was to end, or it had begun the next
            turn, and the answer went on because the guide was asked.
        guide_ends_lost: positions where the guide's top choice was to end, and the answer went on.
        guide_ended: the answer ended by the guide's word where the base would have gone on.
        base_confidence: mean probability of the base's top token; ``guide_confidence`` likewise,
            where it was asked.
        hit_limit: the answer ended with --max-tokens.
    """

    asked: tuple[bool, ...]
    overrides: int
    base_ends_lost: int
    guide_ends_lost: int
    guide_ended: bool
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
class Count:
    """What guides are compared by, of one prompt."""

    asked: int
    tokens: int
    base_end_lost: bool
    hit_limit: bool


@dataclass(frozen=True)
class Report:
    """A guide, as its answers show it. Rates are shares of tokens, or of answers.

    Attributes:
        method, tau: how it was asked; ``tau`` is None where the method has none.
        rate: intervention rate of all tokens together; ``low`` and ``high`` are its 95 % interval.
        cascades: lengths of the runs of interventions, in tokens.
        counts: of each prompt, in order.
    """

    guide: str
    method: str
    tau: float | None
    prompts: int
    rate: float
    low: float
    high: float
    override_rate: float
    cascades: tuple[int, ...]
    hit_limit: float
    base_hit_limit: float
    guide_hit_limit: float
    base_ends_lost: float
    guide_ends_lost: float
    guide_ended: float
    base_confidence: float
    guide_confidence: float | None
    exact_mass: float | None
    tokens_per_s: float
    base_tokens_per_s: float
    guide_tokens_per_s: float
    peak_bytes: int
    counts: tuple[Count, ...]

    @property
    def rates(self) -> tuple[float, ...]:
        """The intervention rate of each prompt."""
        return tuple(bootstrap.share([(one.asked, one.tokens)]) for one in self.counts)

    @property
    def longest_cascade(self) -> int:
        """Tokens of the longest run of interventions."""
        return max(self.cascades, default=0)

    @property
    def mean_cascade(self) -> float:
        """Tokens of a run of interventions."""
        return fmean(self.cascades) if self.cascades else 0.0

    @property
    def has_line(self) -> bool:
        """Whether the paper's rate is one of answers that were made in this way."""
        return self.tau == PAPER_TAU

    def as_json(self) -> dict[str, Any]:
        """Return all figures."""
        bursts = {"longest_cascade": self.longest_cascade, "mean_cascade": self.mean_cascade}
        return {**asdict(self), "rates": self.rates, **bursts}


def summarise(
    guide: str,
    answers: Sequence[Blended],
    base: Sequence[Alone],
    aligned: Sequence[Alone],
    peak_bytes: int = 0,
    method: str = "blendin",
    tau: float | None = PAPER_TAU,
) -> Report:
    """Return the report of a guide.

    Args:
        answers: blended ones, at least one.
        base, aligned: those of either model alone, to the same prompts.
        method, tau: how they were blended.
    """
    low, high = interval(answers)
    tokens = max(1, sum(len(answer.asked) for answer in answers))
    return Report(
        guide=guide,
        method=method,
        tau=tau,
        prompts=len(answers),
        rate=rate(answers),
        low=low,
        high=high,
        override_rate=sum(answer.overrides for answer in answers) / tokens,
        cascades=tuple(run for answer in answers for run in cascades(answer.asked)),
        hit_limit=fmean(answer.hit_limit for answer in answers),
        base_hit_limit=fmean(answer.hit_limit for answer in base),
        guide_hit_limit=fmean(answer.hit_limit for answer in aligned),
        base_ends_lost=fmean(answer.base_ends_lost > 0 for answer in answers),
        guide_ends_lost=fmean(answer.guide_ends_lost > 0 for answer in answers),
        guide_ended=fmean(answer.guide_ended for answer in answers),
        base_confidence=fmean(answer.base_confidence for answer in answers),
        guide_confidence=_mean_of_known(answer.guide_confidence for answer in answers),
        exact_mass=_mean_of_known(answer.exact_mass for answer in answers),
        tokens_per_s=fmean(answer.tokens_per_s for answer in answers),
        base_tokens_per_s=fmean(answer.tokens_per_s for answer in base),
        guide_tokens_per_s=fmean(answer.tokens_per_s for answer in aligned),
        peak_bytes=peak_bytes,
        counts=tuple(_count(answer) for answer in answers),
    )


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _count(answer: Blended) -> Count:
    lost = answer.base_ends_lost > 0
    return Count(sum(answer.asked), len(answer.asked), lost, answer.hit_limit)


def cascades(asked: Sequence[bool]) -> list[int]:
    """Lengths of the runs of interventions."""
    return [len(list(run)) for was_asked, run in groupby(asked) if was_asked]


def rate(answers: Sequence[Blended]) -> float:
    """Interventions over tokens, all answers together."""
    return bootstrap.share(_parts(answers))


def interval(answers: Sequence[Blended]) -> tuple[float, float]:
    """Return the 95 % interval of the rate."""
    return bootstrap.interval(_parts(answers))


def _parts(answers: Sequence[Blended]) -> list[bootstrap.Part]:
    return [(sum(answer.asked), len(answer.asked)) for answer in answers]


def is_stable(answers: Sequence[Blended]) -> bool:
    """True if more prompts would tell little about the rate."""
    if len(answers) < FEWEST:
        return False
    low, high = interval(answers)
    return high - low <= 2 * _STABLE
