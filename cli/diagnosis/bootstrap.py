"""Bootstrap confidence intervals of shares measured over prompts.

Prompts are resampled, not tokens, because the tokens of an answer depend on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_RESAMPLES = 1000
_TAIL = 25  # resamples cut off on either side: 95 % remain

Part = tuple[float, float]  # of one prompt: numerator and denominator of the share


@dataclass(frozen=True)
class Difference:
    """How much larger a second share is than a first, over the same prompts.

    Attributes:
        value: the difference, from -1 to 1.
        low: lower bound of its 95 % interval.
        high: upper bound of its 95 % interval.
    """

    value: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """True if the interval excludes 0."""
        return self.low > 0 or self.high < 0


def share(parts: Sequence[Part]) -> float:
    """Return the share over all prompts together; 0 if the denominators are 0."""
    of = sum(whole for _, whole in parts)
    return sum(part for part, _ in parts) / of if of else 0.0


def interval(parts: Sequence[Part]) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Example:
        >>> interval([(1, 4), (1, 4)])
        (0.25, 0.25)
    """
    return _middle(_drawn(parts))


def difference(first: Sequence[Part], second: Sequence[Part]) -> Difference:
    """Return how much the second share exceeds the first; each resample has the same prompts.

    Swapping the two changes only the sign.

    Args:
        first: parts of the first share.
        second: parts of the second share, of the same prompts in the same order.
    """
    low, high = _middle(_drawn(second) - _drawn(first))
    return Difference(share(second) - share(first), low, high)


def _drawn(parts: Sequence[Part]) -> npt.NDArray[np.float64]:
    """Return the share in each resample; resamples depend only on the number of prompts."""
    import numpy as np

    count = len(parts)
    often = np.random.default_rng(0).multinomial(count, [1 / count] * count, _RESAMPLES)
    counted, whole = (often @ np.array(parts, dtype=np.float64)).T
    shares: npt.NDArray[np.float64] = counted / np.maximum(whole, 1)
    return shares


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    values.sort()
    return float(values[_TAIL]), float(values[-1 - _TAIL])
