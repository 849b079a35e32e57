"""95 % intervals of shares, and of the difference of two shares of the same questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple


class Paired(NamedTuple):
    """Two shares of the same questions: those won and lost, the difference and its interval."""

    better: int
    worse: int
    difference: float
    low: float
    high: float


def paired(ours: Sequence[bool], theirs: Sequence[bool]) -> Paired:
    """Compare which questions are right, one by one."""
    pairs = Counter(zip(ours, theirs, strict=True))
    better, worse = pairs[True, False], pairs[False, True]
    interval = newcombe(pairs[True, True], better, worse, pairs[False, False])
    return Paired(better, worse, (better - worse) / len(ours), *interval)


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, spread = right / of, z * z / of
    middle = share + spread / 2
    half = z * sqrt(share * (1 - share) / of + spread / of / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def newcombe(both: int, better: int, worse: int, neither: int) -> tuple[float, float]:
    """The interval of the difference of two shares of the same questions.

    Newcombe, Statistics in Medicine 17 (1998), 2635 to 2650, method 10: Wilson's intervals of the
    two shares, joined with regard to how the two go together.

    Args:
        both, neither: questions that both, or neither, have right.
        better, worse: questions that only the first, or only the second, has right.
    """
    of = both + better + worse + neither
    ours, theirs = both + better, both + worse
    (low, high), (their_low, their_high) = wilson(ours, of), wilson(theirs, of)
    down, up = ours / of - low, high - ours / of
    their_down, their_up = theirs / of - their_low, their_high - theirs / of
    together: float = both * neither - better * worse
    if together > 0:
        together = max(together - of / 2, 0)
    margins = ours * (of - ours) * theirs * (of - theirs)
    phi = together / sqrt(margins) if margins else 0.0
    difference = (ours - theirs) / of
    return (
        difference - sqrt(down**2 - 2 * phi * down * their_up + their_up**2),
        difference + sqrt(up**2 - 2 * phi * up * their_down + their_down**2),
    )
