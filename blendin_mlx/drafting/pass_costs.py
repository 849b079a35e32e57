"""The cost of passes on this machine, and the draft length that pays.

Source: the expected speed-up of speculative decoding, ``E[accepted + 1] / (v(k) + k · c)``, with
``v(k)`` the time of a pass over ``k + 1`` tokens and ``c`` that of a pass of the guide, both as
multiples of a one-token pass of the base (Leviathan et al., ICML 2023, section 3).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import cycle, pairwise

from ..backend.mlx import mx
from ..model import LanguageModel, Pair
from ..reading.opening import open_context

LONGEST_DRAFT = 8
BUDGET_S = 0.6


@dataclass(frozen=True)
class Costs:
    """Times of one pass, in seconds.

    Attributes:
        base: pairs (tokens read at once, time), from one token on.
        guide: time of a one-token pass of the aligned model.
        meanwhile: whether that can pass while the base computes, see :func:`reads_meanwhile`.

    Example:
        >>> costs = Costs(base=((1, 0.10), (5, 0.14)), guide=0.02)
        >>> costs.verify(4), costs.ask
        (1.4, 0.2)
    """

    base: tuple[tuple[int, float], ...]
    guide: float
    meanwhile: bool = False

    def __post_init__(self) -> None:
        times = [seconds for _, seconds in self.base]
        if not self.base or self.base[0][0] != 1 or min([*times, self.guide]) <= 0:
            raise ValueError("costs are times above 0, those of the base from one token on")

    def verify(self, count: int) -> float:
        """Return ``v(k)``: the cost of a pass over ``count + 1`` tokens, in one-token passes."""
        tokens = count + 1
        lines = list(pairwise(self.base)) or [(self.base[0], (2, 2 * self.base[0][1]))]
        line = next((line for line in lines if tokens <= line[1][0]), lines[-1])
        (low, before), (high, after) = line
        seconds = before + (after - before) * (tokens - low) / (high - low)
        return seconds / self.base[0][1]

    @property
    def ask(self) -> float:
        """``c``: the cost of a one-token pass of the guide, in one-token passes of the base."""
        return self.guide / self.base[0][1]

    @property
    def first(self) -> float:
        """The cost of asking the guide right after a pass of the base, in the same unit."""
        return max(0.0, self.ask - 1) if self.meanwhile else self.ask


@dataclass(frozen=True)
class Outlook:
    """Expectations for the next positions.

    Attributes:
        acceptance: share of drafted tokens that the method accepts.
        asked: share of positions where the guide is asked.
        by_guide: true if the guide drafts; then it has been asked at each drafted position.
    """

    acceptance: float
    asked: float
    by_guide: bool

    def speed(self, costs: Costs, count: int) -> float:
        """Return the tokens per one-token pass of the base, with drafts of ``count`` tokens."""
        produced = sum(self.acceptance**n for n in range(count + 1))
        asking = self.asked * costs.ask
        if self.by_guide and count:
            guide = count * costs.ask + self.acceptance**count * asking
        else:
            guide = self.asked * costs.first + (produced - 1) * asking
        return produced / (costs.verify(count) + guide)

    def best_length(self, costs: Costs, longest: int = LONGEST_DRAFT) -> int:
        """Return the draft length with the highest expected speed; 0 if none pays."""
        return max(range(longest + 1), key=lambda count: self.speed(costs, count))


def measure(pair: Pair) -> Costs:
    """Time passes of both models repeatedly until :data:`BUDGET_S` is used up.

    Each is timed at least twice, as the first pass of a network may compile its kernels.
    """
    schedule = [(pair.base, 1), (pair.base, LONGEST_DRAFT + 1)]
    schedule += [(guide, 1) for guide in pair.guides]
    order = [*schedule, *schedule, (pair.base, LONGEST_DRAFT // 2)]
    best: dict[tuple[int, int], float] = {}
    started = time.perf_counter()
    for turn, (model, tokens) in enumerate(cycle(order)):
        if turn >= 2 * len(schedule) and time.perf_counter() - started > BUDGET_S:
            break
        key = id(model), tokens
        best[key] = min(_time_pass(model, tokens), best.get(key, math.inf))
    base = sorted((tokens, best[one, tokens]) for one, tokens in best if one == id(pair.base))
    asking = sum(best[id(guide), 1] for guide in pair.guides)
    return Costs(tuple(base), asking, reads_meanwhile(pair))


def reads_meanwhile(pair: Pair) -> bool:
    """Return whether the guides of a pair read on other machines while its base computes."""
    places = [guide.elsewhere for guide in pair.guides]
    return all(place is not None and place.reads_ahead for place in places)


def _time_pass(model: LanguageModel, tokens: int) -> float:
    ids = [*model.beginning, *[0] * tokens][:tokens]
    context = open_context(model)
    started = time.perf_counter()
    mx.eval(context.read(ids, rows=tokens))
    return time.perf_counter() - started
