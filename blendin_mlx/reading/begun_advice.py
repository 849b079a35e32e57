"""The guide's advice where the base has begun to write one of its tokens.

At the earliest place of an unfinished token the guide's next token begins; it ends at a later place
or goes on (see :mod:`..tokens.begun_tokens`). With ``P_i`` what the guide says at place ``i``, the
mass of the ways that lead to place ``j`` is ``α_j = Σ_{i<j} α_i Σ P_i(t)`` over the tokens ``t``
that lie between the two, ``α_0 = 1``. At the end of the text, ``e``, the distribution over the
base's next token ``w`` is

    ``P̃(w) = ( α_e · P̃_e(w) + Σ_i α_i Σ P_i(t) ) / Z``

over the tokens ``t`` that were begun at place ``i`` and go on with ``w``; ``Z`` makes the sum 1. So
the base's tokens of a guide token follow one another with a probability that is never below the
guide's own of this token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

from ..backend.mlx import mx
from ..blend.formulas import Top
from ..blend.method import Advice
from ..tokens.begun_tokens import Begun


@dataclass(frozen=True)
class Shares:
    """What a guide says at ``n`` positions of the tokens begun there, at most ``w`` at one.

    Rows are filled up with tokens of no mass.

    Attributes:
        finished: how probable it is that no token is unfinished, ``[n]``.
        begun: how probable each unfinished token is, ``[n, w]``.
        tokens, following, exact: as in :class:`.Way`, ``[n, w]``.
    """

    finished: mx.array
    begun: mx.array
    tokens: mx.array
    following: mx.array
    exact: mx.array

    def leading(self, top: Top, counterpart: mx.array) -> tuple[Top, mx.array]:
        """Return the guide's top token of all, and its counterpart in the base.

        Args:
            top: the top token after the whole text.
            counterpart: that of this one, ``[n]``.
        """
        best = self.begun.argmax(axis=-1)[:, None]
        share, token, following = (
            mx.take_along_axis(one, best, axis=-1)[:, 0]
            for one in (self.begun, self.tokens, self.following)
        )
        prob = self.finished * top.prob
        goes_on = share > prob
        both = Top(mx.maximum(prob, share), mx.where(goes_on, token, top.token))
        return both, mx.where(goes_on, following, counterpart)

    def joined(self, probs: mx.array, ids: mx.array) -> mx.array:
        """Join a distribution ``[n, …]`` after the whole text with the unfinished tokens.

        Args:
            probs: the distribution.
            ids: where each unfinished token stands in it, ``[n, w]``.
        """
        lines = mx.arange(len(probs))[:, None]
        return (self.finished[:, None] * probs).at[lines, ids].add(self.begun)

    def on(self, tokens: mx.array) -> mx.array:
        """Return the mass of the unfinished tokens that go on with ``tokens`` ``[n]``."""
        return mx.where(self.following == tokens[:, None], self.begun, 0.0).sum(axis=-1)

    def applied(self, advice: Advice, twin: Shares | None) -> Advice:
        """Return the advice with the unfinished tokens.

        Args:
            advice: what the guide says after the whole text.
            twin: what its unaligned twin says of the tokens begun.
        """
        assert advice.own_probs is not None
        top, counterpart = self.leading(Top(advice.confidence, advice.token), advice.counterpart)
        exact = (self.begun * self.exact).sum(axis=-1)
        prefix = self.begun.sum(axis=-1) - exact
        twin_probs = advice.reference_probs
        if twin_probs is not None and twin is not None:
            twin_probs = twin.joined(twin_probs, twin.following)
        return Advice(
            probs=self.joined(advice.probs, self.following),
            confidence=top.prob,
            token=top.token,
            counterpart=counterpart,
            exact_mass=self.finished * advice.exact_mass + exact,
            prefix_mass=self.finished * advice.prefix_mass + prefix,
            stop_prob=self.finished * advice.stop_prob,
            reference_probs=twin_probs,
            own_probs=self.joined(advice.own_probs, self.tokens),
        )


def shares(found: Sequence[Begun], probs: mx.array) -> Shares:
    """Return what a guide says of the tokens that are begun at ``n`` positions.

    Args:
        found: what is begun at each.
        probs: the guide's distribution at every place of every position, in their order,
            ``[k, V_g]``.
    """
    ends = accumulate(map(len, found))
    ways = [_mass(one, probs[end - len(one) : end]) for one, end in zip(found, ends, strict=True)]
    most = max(1, *(len(begun) for _, begun in ways))
    return Shares(
        finished=mx.stack([finished for finished, _ in ways]),
        begun=mx.stack([mx.pad(begun, (0, most - len(begun))) for _, begun in ways]),
        tokens=_filled([[way.tokens for way in begun] for begun in found], most),
        following=_filled([[way.following for way in begun] for begun in found], most),
        exact=_filled([[way.exact for way in begun] for begun in found], most),
    )


def _mass(begun: Begun, probs: mx.array) -> tuple[mx.array, mx.array]:
    """Return how probable it is that no token is unfinished, and each unfinished one, ``[w]``."""
    if not begun:
        return mx.array(1.0), mx.zeros(0)
    weights = [mx.array(1.0)]
    for end in range(len(begun)):
        ways = [
            weights[n] * _at(probs[n], way.finished[end - n]).sum()
            for n, way in enumerate(begun[: end + 1])
        ]
        weights.append(sum(ways[1:], ways[0]))
    each = [weights[n] * _at(probs[n], way.tokens) for n, way in enumerate(begun)]
    goes_on = mx.concatenate(each)
    total = weights[-1] + goes_on.sum()
    known = total > 0
    total = mx.where(known, total, 1.0)
    return mx.where(known, weights[-1] / total, 1.0), goes_on / total


def _at(probs: mx.array, tokens: tuple[int, ...]) -> mx.array:
    return probs[mx.array(tokens, dtype=mx.int32)]


def _filled(rows: Sequence[Sequence[Sequence[int]]], most: int) -> mx.array:
    lists = [list(chain.from_iterable(row)) for row in rows]
    filled: Any = [[*row, *[0] * (most - len(row))] for row in lists]
    return mx.array(filled, dtype=mx.int32)
