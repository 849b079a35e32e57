"""The likeliest tokens of the distributions at a position, for inspection of an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from ..backend.mlx import mx
from ..step import Candidate, Candidates, Step

_Decider = Literal["base", "aligned", "blend"]


def likeliest(probs: mx.array, count: int) -> tuple[Candidate, ...]:
    """Return the likeliest tokens of a distribution ``[1, V]``, the likeliest first."""
    count = min(count, probs.shape[-1])
    ids = mx.argpartition(-probs[0], count - 1)[:count]
    ids = ids[mx.argsort(-probs[0, ids])]
    pairs: Any = zip(ids.tolist(), probs[0, ids].tolist(), strict=True)  # type: ignore[arg-type]
    return tuple(Candidate(token, prob) for token, prob in pairs)


class Shortlist:
    """The distributions of one position, to be ranked.

    Args:
        count: how many tokens of each distribution; 0 keeps nothing.

    Example:
        >>> shortlist = Shortlist(5)
        >>> shortlist.see("base", probs)
        >>> shortlist.added_to(step).candidates.base[0]
        Candidate(id=310, prob=0.56)
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._seen: dict[_Decider, mx.array] = {}

    def see(self, role: _Decider, probs: mx.array | None) -> None:
        """Keep a distribution ``[1, V]``; a later one of the same role replaces it."""
        if self.count and probs is not None:
            self._seen[role] = probs

    def added_to(self, step: Step) -> Step:
        """Return the step with the likeliest tokens seen since the last call."""
        if not self.count:
            return step
        seen, self._seen = self._seen, {}
        ranked = {role: likeliest(probs, self.count) for role, probs in seen.items()}
        return replace(step, candidates=Candidates(**ranked))
