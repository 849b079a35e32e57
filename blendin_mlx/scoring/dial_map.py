"""Every setting of the dial from one reading of a few answers: arithmetic on what was read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..blend.formulas import FLOOR
from ..model import Pair
from ..prompt_cache import make_prompt_cache
from ..prompts import PairPrompt
from .readings import Numbers, Reading, read_example

GUIDE_NUMBERS = ("guide_prob", "guide_top", "agreement")


@dataclass(frozen=True)
class Dial:
    """One setting: when the guide is asked, and what it weighs.

    Args:
        tau: the gate is open where the base's confidence is below it.
        alpha: a constant weight; None goes by the confidence of both.
        lambda_: the agreement bonus ``λ`` of the latter.
        scale: what the weight is multiplied by, from 0 to 1.
        guide_temp: temperature of the guide's distribution.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> Dial(tau=1.0, alpha=0.5)     # an even mixture everywhere
    """

    tau: float = 0.4
    alpha: float | None = None
    lambda_: float = 0.1
    scale: float = 1.0
    guide_temp: float = 1.0

    def __post_init__(self) -> None:
        for name, high in (("tau", 1.0), ("alpha", 1.0), ("lambda_", math.inf), ("scale", 1.0)):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= high:
                raise ValueError(f"{name} must be between 0 and {high:g}, not {value:g}")

    @property
    def weighs(self) -> tuple[float | None, float, float, float]:
        """All but the gate."""
        return self.alpha, self.lambda_, self.scale, self.guide_temp


def dial_map(pair: Pair, examples: Iterable[tuple[PairPrompt, str]], **options: Any) -> DialMap:
    """Read prompts with good answers once; the options are those of :func:`read_example`.

    Example:
        >>> best = dial_map(pair, [(build_prompt(pair, "2 + 2?"), "4")]).totals([Dial(), Dial(1.0)])
    """
    cache = options.pop("prompt_cache", None) or make_prompt_cache(pair)
    return DialMap(
        [
            read_example(pair, prompt, answer, prompt_cache=cache, **options)
            for prompt, answer in examples
        ]
    )


class DialMap:
    """What each setting of the dial makes of the answers that were read.

    Args:
        readings: one for each answer, at least one, all with the same temperatures.

    Attributes:
        counts: positions of each answer, ``[m]``.
        base_totals, guide_totals: log-likelihood of each answer by one model alone, in nats,
            ``[m]``; the guide's is in its own tokens.

    Raises:
        ValueError: no readings, or with different temperatures.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        if len({tuple(one.temperatures) for one in readings}) != 1:
            raise ValueError("a map needs readings, all with the same temperatures")
        self.readings = list(readings)
        self.temperatures: list[float] = readings[0].temperatures.tolist()
        self.counts = np.array([len(one.tokens) for one in readings])
        self._starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.base_top = self.joined("base_top")
        self._base_prob = self.joined("base_prob")
        self._guide = {name: self.joined(name) for name in GUIDE_NUMBERS}
        self.readable = self.joined("readable")
        self.base_log = np.log(np.maximum(self.joined("base_prob"), FLOOR))
        self.base_totals = self._sums(self.base_log)
        self.guide_totals = np.array([one.guide_total for one in readings])

    def joined(self, name: str) -> npt.NDArray[Any]:
        """Return an attribute of all readings, one after the other along the positions."""
        return np.concatenate([getattr(one, name) for one in self.readings], axis=-1)

    def totals(self, dials: Sequence[Dial]) -> Numbers:
        """Return the log-likelihood ``[len(dials), m]`` of each answer at each setting, in nats.

        Raises:
            ValueError: a temperature of the guide that was not read.
        """
        alike: dict[Any, list[int]] = {}
        for n, dial in enumerate(dials):
            alike.setdefault(dial.weighs, []).append(n)
        totals = np.empty((len(dials), len(self.counts)))
        for places in alike.values():
            gains = self._gains(dials[places[0]])
            gates = np.stack([self.is_open(dials[n].tau) for n in places])
            totals[places] = self.base_totals + self._sums(np.where(gates, gains, 0.0))
        return totals

    def log_probs(self, dial: Dial) -> Numbers:
        """Return ``log r(y)`` of every position, the answers one after the other."""
        gains: Numbers = np.where(self.is_open(dial.tau), self._gains(dial), 0.0)
        return np.asarray(self.base_log + gains)

    def is_open(self, tau: float) -> npt.NDArray[np.bool_]:
        """Return where the guide is asked; compared in float32, as in decoding."""
        is_open: npt.NDArray[np.bool_] = self.base_top.astype(np.float32) < np.float32(tau)
        is_open &= self.readable
        return is_open

    def _gains(self, dial: Dial) -> Numbers:
        """Return ``log r(y) − log P_b(y)`` at every position, were the gate open there."""
        of = self.temperature_index(dial.guide_temp)
        guide, top, agreement = (self._guide[name][of] for name in GUIDE_NUMBERS)
        if dial.alpha is None:
            ratio = top / (self.base_top + top)
            alpha = np.clip(ratio + dial.lambda_ * agreement, 0.0, 1.0)
        else:
            alpha = np.full(len(top), dial.alpha)
        alpha = dial.scale * alpha
        mixed = alpha * guide + (1.0 - alpha) * self._base_prob
        gains: Numbers = np.log(np.maximum(mixed, FLOOR)) - self.base_log
        return gains

    def temperature_index(self, temp: float) -> int:
        """Return which of the temperatures that were read this is.

        Raises:
            ValueError: none of them.
        """
        if temp not in self.temperatures:
            read = ", ".join(f"{one:g}" for one in self.temperatures)
            raise ValueError(f"guide_temp must be one of {read}, as they were read, not {temp:g}")
        return self.temperatures.index(temp)

    def _sums(self, values: Numbers) -> Numbers:
        """Sum ``[…, n]`` over the positions of each answer, ``[…, m]``."""
        sums: Numbers = np.add.reduceat(values, self._starts, axis=-1)
        return sums
