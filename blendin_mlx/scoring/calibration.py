"""Does a confidence mean what the blend takes it for? With labels, and without.

Without labels, after DACA (arXiv 2505.16690): pretrained models are calibrated and post-training
makes them over-confident; where both models have the same top token, the guide's confidence should
be the base's. With good answers at hand: a top token is right where it is the answer's token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .dial_map import DialMap
from .readings import Flags, Numbers

BINS = 10
FEWEST_AGREEMENTS = 30  # positions below which no temperature is fitted


@dataclass(frozen=True)
class Bin:
    """Positions of about the same confidence.

    Attributes:
        count: how many.
        confidence: the mean of it.
        right: the share of them whose top token is right.
    """

    count: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """How often top tokens are right, by confidence.

    Attributes:
        bins: by rising confidence, without empty ones.
        error: the expected calibration error, ``Σ count/n · |right − confidence|``; None of
            nothing.
    """

    bins: tuple[Bin, ...]
    error: float | None


@dataclass(frozen=True)
class Calibration:
    """Reliability of both models, at all positions and where a gate is open."""

    base: Reliability
    guide: Reliability
    base_open: Reliability
    guide_open: Reliability


def calibration(read: DialMap, tau: float, guide_temp: float = 1.0) -> Calibration:
    """Compare the confidences of both models with how often they are right.

    Args:
        read: the map of the examples.
        tau: of the gate.
        guide_temp: of the guide, one of those that were read.

    Example:
        >>> calibration(read, 0.4).guide_open.error
    """
    base, guide = read.base_top, read.joined("guide_top")[read.temperature_index(guide_temp)]
    base_right, guide_right = read.joined("base_right"), read.joined("guide_right")
    gate = read.is_open(tau)
    can = read.readable
    return Calibration(
        base=reliability(base, base_right),
        guide=reliability(guide[can], guide_right[can]),
        base_open=reliability(base[gate], base_right[gate]),
        guide_open=reliability(guide[gate], guide_right[gate]),
    )


def reliability(confidence: Numbers, right: Flags) -> Reliability:
    """Return the reliability curve of ``n`` top tokens, in bins of equal width.

    Example:
        >>> reliability(np.array([0.9, 0.9]), np.array([True, False])).error
        0.4
    """
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        here = places == place
        of = int(here.sum())
        bins.append(Bin(of, float(confidence[here].mean()), float(right[here].mean())))
    if not bins:
        return Reliability((), None)
    error = sum(one.count * abs(one.right - one.confidence) for one in bins) / len(confidence)
    return Reliability(tuple(bins), error)


def fit_temperature(read: DialMap) -> float | None:
    """Return the temperature at which the guide is as confident as the base where they agree.

    Mean confidences at the agreement positions are compared; between the temperatures that were
    read they are interpolated over ``log T``, and beyond them the nearest is returned. None where
    the models agree too seldom.
    """
    agree = read.joined("same_top") & read.readable
    if agree.sum() < FEWEST_AGREEMENTS:
        return None
    means = read.joined("guide_top")[:, agree].mean(axis=-1)
    order = np.argsort(means)
    logs = np.log(np.array(read.temperatures))
    wanted = read.base_top[agree].mean()
    return float(np.exp(np.interp(wanted, means[order], logs[order])))
