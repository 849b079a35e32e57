"""Several guides, asked together: their distributions are mixed over the base's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend.mlx import mx
from ..blend import formulas
from ..blend.method import Advice
from ..tokens.answer_text import AnswerText
from .guide import Guide
from .reader import Reader
from .requests import Deciding, run
from .said import Said, Told


class MixedGuide:
    """Guides during one answer, each with a weight: ``P̃_g = Σ w_i P̃_i``.

    The mixture exists over the base's vocabulary only: ``t_g`` is its top token there, an id of the
    base, and ``p̂_g`` that token's probability.

    Args:
        guides: at least one; none of them has a reference model.
        weights: of each; they sum to 1.

    Example:
        >>> MixedGuide([careful, terse], [0.7, 0.3]).advise(answer).probs
    """

    def __init__(self, guides: Sequence[Guide], weights: Sequence[float]) -> None:
        self._guides = list(guides)
        self._weights = list(weights)

    def members(self) -> Sequence[Guide]:
        """Return the guides that are asked."""
        return self._guides

    def twin(self) -> None:
        """Return None: no method takes a twin of several guides."""

    def openings(self) -> list[tuple[Reader, list[int]]]:
        """Return each context with what it reads before the answer."""
        return [opening for guide in self._guides for opening in guide.openings()]

    def can_read(self, answer: AnswerText) -> bool:
        """Return whether all guides can read the answer so far."""
        return all(guide.can_read(answer) for guide in self._guides)

    def is_full(self, answer: AnswerText) -> bool:
        """Return whether a context of a guide has no room for another token."""
        return any(guide.is_full(answer) for guide in self._guides)

    def begin(self, token: mx.array) -> None:
        """Start the passes over a token of the base early, in guides that have the same tokens."""
        for guide in self._guides:
            guide.begin(token)

    def expect(self, answer: AnswerText) -> None:
        """Let guides on another machine read the answer so far before they are asked."""
        for guide in self._guides:
            guide.expect(answer)

    def settle(self, answer: AnswerText) -> None:
        """Rewind the contexts to the end of the answer."""
        for guide in self._guides:
            guide.settle(answer)

    def advise(self, answer: AnswerText) -> Advice:
        """Return what the guides together say comes next, lazily."""
        return run(self.advising(answer))

    def advising(self, answer: AnswerText) -> Deciding[Advice]:
        """Ask for what :meth:`advise` returns."""
        votes = []
        for guide in self._guides:
            votes.append((yield from guide.advising(answer)))
        return self._mixed(votes)

    def together(self, said: Sequence[Said]) -> Advice:
        """Return the advice at ``n`` positions, from what each of the guides said there."""
        pairs = zip(self._guides, said, strict=True)
        return self._mixed([guide.advice(*one) for guide, one in pairs])

    def told(self, tokens: Sequence[int], said: Sequence[Said]) -> Told:
        """Return what the advice at ``n`` positions gives to one token of the base at each.

        Args:
            tokens: ``n`` ids of the base.
            said: what each of the guides said there.
        """
        advice = self.together(said)
        prob = mx.take_along_axis(advice.probs, mx.array(list(tokens))[:, None], axis=-1)[:, 0]
        sure = tuple(vote.confidence for vote in advice.votes)
        return Told(advice.confidence, prob, advice.counterpart, sure)

    def _mixed(self, votes: Sequence[Advice]) -> Advice:
        probs = self._mean([vote.probs for vote in votes])
        top = formulas.top(probs)
        return Advice(
            probs=probs,
            confidence=top.prob,
            token=top.token,
            counterpart=top.token,
            exact_mass=self._mean([vote.exact_mass for vote in votes]),
            prefix_mass=self._mean([vote.prefix_mass for vote in votes]),
            stop_prob=self._mean([vote.stop_prob for vote in votes]),
            own_probs=probs,
            votes=tuple(votes),
        )

    def _mean(self, values: Sequence[mx.array]) -> mx.array:
        weighed = [weight * one for weight, one in zip(self._weights, values, strict=True)]
        mean = weighed[0]
        for one in weighed[1:]:
            mean = mean + one
        return mean
