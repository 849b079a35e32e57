"""Proposals for what comes next, so that the base scores many positions in one pass.

A proposal is never believed. The decoder decides every position by its method, from the same
distributions as without a draft; where it decides as proposed, the base's distribution for the
next position is at hand already. So any proposer gives the same text, drawn the same way, and
only the time differs. Drawing from the distribution that decides and comparing is speculative
sampling with a proposer that is certain: the draft ``d`` is accepted with probability ``r(d)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from ..reading.context import Context
from ..step import Step
from ..tokens.answer_text import AnswerText
from .pass_costs import Costs, Outlook
from .proposers import Proposer, ProposerName, cannot_rewind

# Who may propose: auto  whoever pays; guide, lookup  only that one; off  nobody.
Draft = Literal["auto", "guide", "lookup", "off"]
MEMORY = 0.95  # how much of the past a running share keeps with each new token
# Before anything is known: so many tokens of such a share.
PRIOR_WEIGHT, PRIOR_ACCEPTANCE, PRIOR_ASKED = 4.0, 0.7, 0.15
MOST_DRAFTED = 16
HOPEFUL = 0.95  # a proposer that would not pay even at this acceptance is never tried
PATIENCE = 32  # tokens until one that does not pay is tried again; doubled each time


@dataclass
class Share:
    """A share that follows the last few dozen of what it counts."""

    value: float
    weight: float = PRIOR_WEIGHT

    def add(self, hit: bool) -> None:
        """Count one more."""
        kept = self.weight * MEMORY
        self.value = (self.value * kept + hit) / (kept + 1)
        self.weight = kept + 1


class Drafting:
    """Whether and how to draft, and what was learnt so far; give it again to go on from there.

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
        >>> Drafting("lookup", num_draft_tokens=4)
    """

    def __init__(
        self,
        draft: Draft = "auto",
        num_draft_tokens: int | None = None,
        costs: Costs | None = None,
    ) -> None:
        if draft not in get_args(Draft):
            raise ValueError(f"draft must be one of {', '.join(get_args(Draft))}, not {draft!r}")
        if num_draft_tokens is not None and not 1 <= num_draft_tokens <= MOST_DRAFTED:
            raise ValueError(
                f"num_draft_tokens must be between 1 and {MOST_DRAFTED}, not {num_draft_tokens}"
            )
        self.draft = draft
        self.num_draft_tokens = num_draft_tokens
        self.costs = costs
        self.asked = Share(PRIOR_ASKED)
        self.records: dict[ProposerName, Record] = {"guide": Record(), "lookup": Record()}
        self.proposed = 0
        self.accepted = 0
        self.off_because: str | None = None

    def allows(self, name: ProposerName) -> bool:
        """Whether this proposer may be used."""
        return self.draft in ("auto", name)

    def outlook(self, name: ProposerName) -> Outlook:
        """What is expected of a proposer from what was seen."""
        return Outlook(self.records[name].acceptance.value, self.asked.value, name == "guide")

    def length(self, name: ProposerName) -> int:
        """How long a draft of this proposer should be now, 0 for none."""
        if self.costs is None or self.num_draft_tokens is not None:
            return self.num_draft_tokens or 0
        outlook = self.outlook(name)
        best = outlook.best_length(self.costs)
        hopeful = replace(outlook, acceptance=HOPEFUL).best_length(self.costs) > 0
        return self.records[name].wanted(best, hopeful)

    def describe(self, name: ProposerName) -> str:
        """A proposer and its prospects, in words."""
        share = f"{self.records[name].acceptance.value:.0%} of its tokens would do"
        if name == "guide" and self.costs is not None:
            return f"guide: {share}, at {self.costs.ask:.2f} passes of the base each"
        return f"{name}: {share}"

    def speed(self, name: ProposerName) -> float:
        """The expected speed with this proposer, in tokens per base pass."""
        if self.costs is None:
            return 0.0
        outlook = self.outlook(name)
        return outlook.speed(self.costs, outlook.best_length(self.costs))


@dataclass
class Record:
    """How a proposer has done, and how long one that does not pay has been left alone."""

    acceptance: Share = field(default_factory=lambda: Share(PRIOR_ACCEPTANCE))
    patience: int = PATIENCE
    waited: int = 0
    is_off: bool = False

    def wanted(self, best: int, hopeful: bool) -> int:
        """``best``, or a token now and then where that is 0 and a better time may have come."""
        self.is_off = best == 0
        if best:
            self.patience, self.waited = PATIENCE, 0
            return best
        self.waited += 1
        return int(hopeful and self.waited >= self.patience)

    def used(self) -> None:
        """A draft was made; if only to try again, then the next try comes later."""
        if self.is_off:
            self.patience, self.waited = 2 * self.patience, 0


class Speculation:
    """The drafts of one answer.

    Args:
        drafting: how to draft; it learns from this answer.
        proposers: who may propose.
        base: the context that will read the drafts.
    """

    def __init__(self, drafting: Drafting, proposers: Sequence[Proposer], base: Context) -> None:
        self.drafting = drafting
        self._proposers = list(proposers)
        self._base = base
        self._pending: list[int] = []
        self._by: ProposerName = "lookup"

    def draft(self, answer: AnswerText, room: int) -> list[int]:
        """What to score beyond the answer so far; at most ``room`` tokens."""
        self.forget()
        if room < 1:
            return []
        drafting = self.drafting
        names = [proposer.name for proposer in self._proposers]
        drafting.off_because = None
        for proposer in sorted(self._proposers, key=lambda p: -drafting.speed(p.name)):
            count = min(room, drafting.length(proposer.name))
            if count and not self._base.can_trim(len(self._base.tokens) + 1 + count):
                drafting.off_because = cannot_rewind(self._base)
                return []
            if count and (drafted := proposer.propose(answer, count)):
                self._by, self._pending = proposer.name, list(drafted)
                drafting.records[proposer.name].used()
                drafting.proposed += len(drafted)
                return drafted
        obstacles = [proposer.obstacle for proposer in self._proposers]
        if all(obstacles):
            drafting.off_because = obstacles[0]
        elif all(drafting.records[name].is_off for name in names):
            drafting.off_because = f"it does not pay ({'; '.join(map(drafting.describe, names))})"
        return []

    def forget(self) -> None:
        """The answer goes on elsewhere: what was drafted here is neither hit nor miss."""
        self._pending = []

    def decided(self, step: Step) -> None:
        """Told of every step, to learn from it."""
        drafting = self.drafting
        drafting.asked.add(step.is_intervention or step.stop_check)
        if not self._pending:
            return
        hit = self._pending.pop(0) == step.id
        drafting.records[self._by].acceptance.add(hit)
        drafting.accepted += hit
        if not hit:
            self._pending = []
