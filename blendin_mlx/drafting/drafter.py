"""Drafts of the next tokens, so that the base scores many positions in one pass.

A draft is never believed. The decoder decides every position by its method, from the same
distributions as without a draft; where it decides as drafted, the base's distribution for the
next position is already known. So any proposer gives the same text, drawn the same way, and only
the time differs. Drawing from the distribution that decides and comparing is speculative sampling
with a deterministic proposer: the draft ``d`` is accepted with probability ``r(d)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from ..reading.reader import Reader
from ..step import Step
from ..tokens.answer_text import AnswerText
from .pass_costs import Costs, Outlook
from .proposers import Proposer, ProposerName, cannot_rewind

# Who may propose: auto  the one that pays most; guide, lookup  only that one; off  none.
Draft = Literal["auto", "guide", "lookup", "off"]
_MEMORY = 0.95  # how much of the past a running mean keeps with each new token
# The prior of a running mean: its weight in tokens, and its values.
_PRIOR_WEIGHT, PRIOR_ACCEPTANCE, _PRIOR_ASKED = 4.0, 0.7, 0.15
_MOST_DRAFTED = 16
_HOPEFUL = 0.95  # a proposer that would not pay even at this acceptance is never tried
_PATIENCE = 32  # tokens until a proposer that does not pay is tried again; doubled each time


@dataclass
class Share:
    """Exponentially weighted running mean of hits."""

    value: float
    weight: float = _PRIOR_WEIGHT

    def add(self, hit: bool) -> None:
        """Add a hit or a miss."""
        kept = self.weight * _MEMORY
        self.value = (self.value * kept + hit) / (kept + 1)
        self.weight = kept + 1


@dataclass
class Record:
    """The success of a proposer, and how long it has been off because it does not pay."""

    acceptance: Share = field(default_factory=lambda: Share(PRIOR_ACCEPTANCE))
    patience: int = _PATIENCE
    waited: int = 0
    is_off: bool = False

    def consider(self, best: int) -> None:
        """Note the draft length that pays at this position, 0 if none does."""
        self.is_off = best == 0
        if best:
            self.patience, self.waited = _PATIENCE, 0
        else:
            self.waited += 1

    def length(self, best: int, hopeful: bool) -> int:
        """Return ``best``; if that is 0, return 1 when a trial is due and may succeed."""
        return best or int(hopeful and self.waited >= self.patience)

    def used(self) -> None:
        """Note that a draft was made; if it was only a trial, double the wait for the next."""
        if self.is_off:
            self.patience, self.waited = 2 * self.patience, 0


class Drafter:
    """A source of drafts that learns how long they should be.

    It serves one answer at a time; give it again to the next one to keep what it has learned.

    Args:
        draft: one of :data:`Draft`.
        num_draft_tokens: a fixed length; None lets it follow the running acceptance, down to no
            draft at all where none pays.
        costs: what passes cost (see :func:`.pass_costs.measure`); needed without a fixed length.

    Attributes:
        proposed, accepted: tokens drafted, and how many of them were decided alike.
        off_because: why nothing was drafted at the last position where that was considered.

    Raises:
        ValueError: an option out of range.

    Example:
        >>> Drafter("lookup", num_draft_tokens=4)
    """

    def __init__(
        self,
        draft: Draft = "auto",
        num_draft_tokens: int | None = None,
        costs: Costs | None = None,
    ) -> None:
        if draft not in get_args(Draft):
            raise ValueError(f"draft must be one of {', '.join(get_args(Draft))}, not {draft!r}")
        if num_draft_tokens is not None and not 1 <= num_draft_tokens <= _MOST_DRAFTED:
            raise ValueError(
                f"num_draft_tokens must be between 1 and {_MOST_DRAFTED}, not {num_draft_tokens}"
            )
        self.costs = costs
        self.records: dict[ProposerName, Record] = {"guide": Record(), "lookup": Record()}
        self.proposed = 0
        self.accepted = 0
        self.off_because: str | None = None
        self._draft = draft
        self._fixed_length = num_draft_tokens
        self._asked = Share(_PRIOR_ASKED)
        self._proposers: list[Proposer] = []
        self._pending: list[int] = []
        self._by: ProposerName = "lookup"

    def allows(self, name: ProposerName) -> bool:
        """Return whether this proposer may be used."""
        return self._draft in ("auto", name)

    @property
    def needs_costs(self) -> bool:
        """True if the draft length depends on the cost of passes, and that is unknown."""
        return self._fixed_length is None and self.costs is None

    @property
    def can_draft(self) -> bool:
        """True if anything may be proposed in this answer."""
        return bool(self._proposers)

    @property
    def is_resting(self) -> bool:
        """True if nothing would be drafted now: nothing is pending, pays, or is due for a trial."""
        return not self._pending and not any(self.length(one.name) for one in self._proposers)

    def begin(self, proposers: Sequence[Proposer], base: Reader) -> None:
        """Start a new answer.

        Args:
            proposers: the proposers that may be used.
            base: the context that will read the drafts.
        """
        self._proposers = list(proposers)
        self._base = base
        self.forget()
        self._consider()

    def draft(self, answer: AnswerText, room: int) -> list[int]:
        """Return what to score beyond the answer so far, at most ``room`` tokens."""
        self.forget()
        if room < 1 or not self._proposers:
            return []
        self.off_because = None
        for proposer in sorted(self._proposers, key=lambda p: -self._speed(p.name)):
            count = min(room, self.length(proposer.name))
            if count and not self._base.can_trim(len(self._base.tokens) + 1 + count):
                self.off_because = cannot_rewind(self._base)
                return []
            if count and (drafted := proposer.propose(answer, count)):
                self._by, self._pending = proposer.name, list(drafted)
                self.records[proposer.name].used()
                self.proposed += len(drafted)
                return drafted
        self.off_because = self._obstacle()
        return []

    def learn(self, step: Step) -> None:
        """Learn from a decided step."""
        if not self._proposers:
            return
        self._asked.add(step.is_intervention or step.stop_check)
        self._consider()
        if not self._pending:
            return
        hit = self._pending.pop(0) == step.id
        self.records[self._by].acceptance.add(hit)
        self.accepted += hit
        if not hit:
            self._pending = []

    def forget(self) -> None:
        """Drop the draft without counting it as hit or miss."""
        self._pending = []

    def length(self, name: ProposerName) -> int:
        """Return the draft length for this proposer now, 0 for none."""
        if self.costs is None or self._fixed_length is not None:
            return self._fixed_length or 0
        outlook = self._outlook(name)
        hopeful = replace(outlook, acceptance=_HOPEFUL).best_length(self.costs) > 0
        return self.records[name].length(outlook.best_length(self.costs), hopeful)

    def _consider(self) -> None:
        """Note who pays at the next position."""
        if self.costs is None or self._fixed_length is not None:
            return
        for proposer in self._proposers:
            best = self._outlook(proposer.name).best_length(self.costs)
            self.records[proposer.name].consider(best)

    def _outlook(self, name: ProposerName) -> Outlook:
        return Outlook(self.records[name].acceptance.value, self._asked.value, name == "guide")

    def _speed(self, name: ProposerName) -> float:
        """Return the expected speed with this proposer, in tokens per base pass."""
        if self.costs is None:
            return 0.0
        outlook = self._outlook(name)
        return outlook.speed(self.costs, outlook.best_length(self.costs))

    def _obstacle(self) -> str | None:
        """Return why nothing was drafted, None if the proposers just found nothing."""
        obstacles = [proposer.obstacle for proposer in self._proposers]
        if all(obstacles):
            return obstacles[0]
        names = [proposer.name for proposer in self._proposers]
        if all(self.records[name].is_off for name in names):
            return f"it does not pay ({'; '.join(map(self._describe, names))})"
        return None

    def _describe(self, name: ProposerName) -> str:
        """Describe a proposer and its expected success."""
        share = f"{self.records[name].acceptance.value:.0%} of its tokens would do"
        if name == "guide" and self.costs is not None:
            return f"guide: {share}, at {self.costs.ask:.2f} passes of the base each"
        return f"{name}: {share}"
