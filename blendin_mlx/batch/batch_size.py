"""How many answers to write at once, from what passes cost."""

from __future__ import annotations

from itertools import pairwise

from ..drafting.pass_costs import Costs

SIZES = (1, 2, 4, 8, 16, 32)
LEAST_GAIN = 1.2  # tokens per second that twice as many answers must bring


def best_size(costs: Costs) -> int:
    """Return the number of answers beyond which twice as many bring little more.

    Args:
        costs: a pass over a token of each of ``n`` answers takes what one over ``n`` tokens does.

    Example:
        >>> best_size(Costs(base=((1, 0.10), (9, 0.16)), guide=0.02))
        32
    """
    speed = {size: size / costs.verify(size - 1) for size in SIZES}
    return next(
        (one for one, two in pairwise(SIZES) if speed[two] < LEAST_GAIN * speed[one]), SIZES[-1]
    )
