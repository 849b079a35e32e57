"""The roles of a pair's models, and what each of several guides counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

# base, aligned, reference; of further guides: aligned 2, aligned 3, ...
Role = str
T = TypeVar("T")


def by_role(base: T, aligned: T, reference: T | None, others: Sequence[T] = ()) -> dict[Role, T]:
    """Return what belongs to a pair's models by their roles; the reference only if there is one."""
    found: dict[Role, T] = {"base": base, "aligned": aligned}
    if reference is not None:
        found["reference"] = reference
    return {**found, **{f"aligned {n}": one for n, one in enumerate(others, 2)}}


def check_weights(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """Return the weights of guides, divided by their sum unless that is 1 already.

    Args:
        weights: one of each guide.
        count: how many guides there are.

    Raises:
        ValueError: not so many, a weight that is negative or not finite, or none above 0.

    Example:
        >>> check_weights((2.0, 6.0), 2)
        (0.25, 0.75)
    """
    if len(weights) != count:
        raise ValueError(f"{count} guides need {count} weights, not {len(weights)}")
    whole = sum(weights)
    if not all(0 <= weight < float("inf") for weight in weights) or not 0 < whole < float("inf"):
        raise ValueError(f"weights of guides must be positive, not {', '.join(map(str, weights))}")
    if math.isclose(whole, 1.0, rel_tol=1e-12):  # so what was divided once stays as it is
        return tuple(weights)
    return tuple(weight / whole for weight in weights)
