"""Statistics of a guide's answers: rates with their uncertainty, bursts, endings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from . import bootstrap

PAPER_TAU = 0.4  # the gate threshold of the paper's rates
_STABLE = 0.02  # half-width of the interval at which the rate counts as stable
FEWEST = 8  # prompts; fewer are too few for an interval


@dataclass(frozen=True)
class Blended:
    """Counts of a blended answer.

    Attributes:
        asked: for each token, True if it was an intervention.
        overrides: number of interventions whose token is not the base's top token.
        base_ends_lost: positions where the base's top choice was to end, or it had begun the next
            turn, and the answer went on because the guide was asked.
        guide_ends_lost: positions where the guide's top choice was to end, and the answer went on.
        guide_ended: True if the guide ended the answer where the base would have gone on.
        base_confidence: mean probability of the base's top token.
        guide_confidence: mean probability of the guide's top token where it was asked, or None.
        exact_mass: mean share of the guide's mass carried over by exact match, or None.
        hit_limit: True if the answer reached --max-tokens.
        tokens_per_s: tokens per second.
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
    """Counts of a prompt that guides are compared by."""

    asked: int
    tokens: int
    base_end_lost: bool
    hit_limit: bool


@dataclass(frozen=True)
class Report:
    """Statistics of a guide. Rates are shares of tokens or of answers, from 0 to 1.

    Attributes:
        guide: the guide's name.
        method: the method that asked it.
        tau: the method's threshold on the base's confidence, or None.
        prompts: number of prompts.
        rate: intervention rate over all tokens.
        low: lower bound of the rate's 95 % interval.
        high: upper bound of the rate's 95 % interval.
        override_rate: overrides over all tokens.
        cascades: lengths of the runs of interventions, in tokens.
        hit_limit: share of blended answers that reached --max-tokens; ``base_hit_limit`` and
            ``guide_hit_limit`` likewise for either model alone.
        base_ends_lost: share of answers with such a position (see :class:`Blended`);
            ``guide_ends_lost`` and ``guide_ended`` likewise.
        base_confidence: mean over the answers; ``guide_confidence`` and ``exact_mass`` likewise.
        tokens_per_s: mean speed; ``base_tokens_per_s`` and ``guide_tokens_per_s`` likewise.
        peak_bytes: peak memory.
        counts: the counts of each prompt, in order.
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
        """Length of the longest run of interventions, in tokens."""
        return max(self.cascades, default=0)

    @property
    def mean_cascade(self) -> float:
        """Mean length of the runs of interventions, in tokens."""
        return fmean(self.cascades) if self.cascades else 0.0

    @property
    def threshold_applies(self) -> bool:
        """True if the paper's warning rate applies: it holds for its τ of 0.4."""
        return self.tau == PAPER_TAU

    def as_json(self) -> dict[str, Any]:
        """Return all figures as JSON."""
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
    """Summarise the answers of a guide.

    Args:
        guide: the guide's name.
        answers: the blended answers, at least one.
        base: the base's own answers to the same prompts.
        aligned: the guide's own answers to the same prompts.
        peak_bytes: peak memory.
        method: the method of the blended answers.
        tau: its threshold on the base's confidence, or None.
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
    """Return the lengths of the runs of interventions, in tokens."""
    return [len(list(run)) for was_asked, run in groupby(asked) if was_asked]


def rate(answers: Sequence[Blended]) -> float:
    """Return interventions over tokens, all answers together."""
    return bootstrap.share(_parts(answers))


def interval(answers: Sequence[Blended]) -> tuple[float, float]:
    """Return the 95 % interval of the rate."""
    return bootstrap.interval(_parts(answers))


def _parts(answers: Sequence[Blended]) -> list[bootstrap.Part]:
    return [(sum(answer.asked), len(answer.asked)) for answer in answers]


def is_stable(answers: Sequence[Blended]) -> bool:
    """Return True if the rate is known to ±2 %."""
    if len(answers) < FEWEST:
        return False
    low, high = interval(answers)
    return high - low <= 2 * _STABLE
