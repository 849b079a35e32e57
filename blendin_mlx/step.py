"""Records of one decided position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["base", "blend", "aligned"]


@dataclass(frozen=True)
class Candidate:
    """A token of one model's own vocabulary and its probability there."""

    id: int
    prob: float


@dataclass(frozen=True)
class Candidates:
    """The likeliest tokens at a position, the likeliest first.

    Attributes:
        base: by the base; empty where it was not run.
        aligned: by the aligned model, ids of its own; empty where it was not asked.
        blend: by the distribution that decided; empty where that is the base's.
    """

    base: tuple[Candidate, ...] = ()
    aligned: tuple[Candidate, ...] = ()
    blend: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Guidance:
    """The guide's part in a choice.

    Attributes:
        top: its top token, an id of its own; of several guides together, an id of the base.
        alpha: its weight in the distribution that decided.
        exact_mass: share of its mass that was carried over by exact match.
        prefix_mass: share that was carried over by the longest prefix.
        votes: of several guides, the top token of each, an id of its own.
    """

    top: Candidate
    alpha: float
    exact_mass: float
    prefix_mass: float
    votes: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Step:
    """One decided position.

    Attributes:
        index: position in the answer, from 0.
        id: the chosen token, an id of the base (its STOP id where the answer ends).
        source: whose wish was followed: the ``base``'s where the gate was shut, the ``blend``'s
            at an intervention, the ``aligned`` model's where it alone decided.
        base: the base's top token; None where the guide wrote alone and the base was not run.
        guidance: the guide's part; None where the method's target did not decide.
        prob: probability of the chosen token in the distribution that decided.
        stop_prob: P(STOP) in the distribution that decided; the guide's own where a sure base was
            only checked for the end.
        gate_margin: the distance to the gate, ``p̂_b − τ``, or with another sureness of
            :mod:`.blend.gates` in place of ``p̂_b``; None for methods without one.
        gap: lead of the chosen token over the next best in the distribution that decided.
        is_stop: the answer ends here.
        stop_check: the guide was asked only whether the answer is over.
        instead_of: token banned here because an end that began with it was taken back.
        candidates: the likeliest tokens of each distribution, if they were asked for.
    """

    index: int
    id: int
    source: Source
    base: Candidate | None
    guidance: Guidance | None
    prob: float
    stop_prob: float
    gate_margin: float | None
    gap: float
    is_stop: bool = False
    stop_check: bool = False
    instead_of: int | None = None
    candidates: Candidates | None = None

    @property
    def is_intervention(self) -> bool:
        """True if the guide was asked here and the method's target decided."""
        return self.guidance is not None

    @property
    def is_override(self) -> bool:
        """True if this is an intervention whose token is not the base's top token.

        False where the base was not run: nobody knows.
        """
        return self.is_intervention and self.base is not None and self.id != self.base.id
