"""Base and guide at the end of an answer that grows: they are run, and their numbers read back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from ..backend.mlx import is_cpu, mx
from ..blend import formulas
from ..blend.dial import base_temperature
from ..blend.method import Advice, Method, View
from ..drafting.drafter import Drafter
from ..reading.advisor import Advisor, is_remote
from ..reading.reader import Reader
from ..reading.requests import Deciding, logits_after, values
from ..step import Candidate
from ..tokens.answer_text import AnswerText
from . import rules
from .top_tokens import Shortlist


class BaseRead(NamedTuple):
    """What was read back of the base at a position.

    Attributes:
        top: its top token.
        gate_margin: see :meth:`.method.Method.gate_margin`.
    """

    top: Candidate
    gate_margin: float | None


class TwoModels:
    """What both models say after the answer so far; each is run only where that is asked for.

    Where nothing would be drafted, a GPU starts the next pass before this token is read back; it is
    discarded if another token follows. A guide on another machine is told the text before the
    base's pass, to read it meanwhile.

    Args:
        base: the base's context.
        prompt: what the base reads before the answer.
        answer: the answer; it grows elsewhere.
        guide: the aligned model; None if it is never asked.
        method: says how far the base is from its gate, and at which temperature it is read.
        drafter: drafts tokens that the base scores in one pass.
        max_tokens: no token beyond so many is drafted.
        candidates: how many of the likeliest tokens of each distribution are ranked.

    Attributes:
        level: ``log Σ exp`` of the base's last logits, see :func:`.formulas.level`.
        shortlist: the distributions of this position.
    """

    def __init__(
        self,
        base: Reader,
        prompt: Sequence[int],
        answer: AnswerText,
        guide: Advisor | None,
        method: Method,
        drafter: Drafter,
        max_tokens: int,
        candidates: int,
    ) -> None:
        self._base = base
        self._prompt = list(prompt)
        self._answer = answer
        self._guide = guide
        self._method = method
        self._drafter = drafter
        self._max_tokens = max_tokens
        self._overlaps = not is_cpu()
        self._remote = guide if guide is not None and is_remote(guide) else None
        self.level: mx.array | float = 0.0
        self.shortlist = Shortlist(candidates)

    def can_ask(self) -> bool:
        """Return whether the guide can read the answer so far."""
        return self._guide is not None and self._guide.can_read(self._answer)

    def tokens(self) -> list[int]:
        """Return prompt and answer so far, in ids of the base."""
        return [*self._prompt, *self._answer.ids]

    def run_base(self) -> Deciding[View]:
        """Return what the base says comes next, lazily."""
        tokens = self.tokens()
        known = self._base.knows(tokens)
        draft = [] if known else self._draft()
        if self._remote is not None and (self.overlaps or not known):  # there is a pass to wait for
            self._remote.expect(self._answer)
        logits = yield from logits_after(self._base, tokens, draft)
        if self._remote is not None:  # the base computes while the guide's answer is waited for
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
        logits = formulas.tempered(logits, base_temperature(self._method))
        vocabulary = self._base.model.vocabulary
        self.level = formulas.level(logits, vocabulary.size)
        probs = vocabulary.distribution(logits)
        self.shortlist.see("base", probs)
        return View(probs, *formulas.top(probs))

    def _draft(self) -> list[int]:
        written = len(self._answer.ids)
        limit = self._base.model.context_limit or sys.maxsize
        room = min(self._max_tokens - written, limit - len(self._prompt) - written) - 1
        return self._drafter.draft(self._answer, room)

    def ask_guide(self) -> Deciding[Advice]:
        """Return what the guide says comes next, lazily."""
        assert self._guide is not None
        advice = yield from self._guide.advising(self._answer)
        self.shortlist.see("aligned", advice.own_probs)
        return advice

    @property
    def overlaps(self) -> bool:
        """True if the next pass is started before this token is read back."""
        is_last = len(self._answer.ids) + 1 >= self._max_tokens
        return self._overlaps and not is_last and self._drafter.is_resting

    def begin_base(self, chosen: mx.array) -> None:
        """Start the base's next pass early where passes overlap."""
        if self.overlaps:
            self._base.begin(chosen)

    def begin_guide(self, chosen: mx.array) -> None:
        """Start the guide's next pass early where passes overlap."""
        if self.overlaps and self._guide is not None:
            self._guide.begin(chosen)

    def read(
        self, view: View | None, row: list[mx.array]
    ) -> Deciding[tuple[BaseRead | None, list[float]]]:
        """Read back, in one array, the base's part, if it was run, and ``row``.

        Raises:
            NumericalError: the base's logits are not finite, or all equal.
        """
        if view is None:
            return None, (yield from values(row))
        margin = self._method.gate_margin(view)
        own = [view.confidence, view.token, view.confidence if margin is None else margin]
        confidence, top, distance, *read = yield from values([*own, *row])
        self._check_sound(confidence, self._base)
        base = BaseRead(Candidate(int(top), confidence), None if margin is None else distance)
        return base, read

    def read_advised(
        self, view: View | None, advice: Advice, row: list[mx.array]
    ) -> Deciding[tuple[BaseRead | None, Candidate, tuple[Candidate, ...], list[float]]]:
        """Read back the base's part, the guide's top token, that of each of several, and ``row``.

        Raises:
            NumericalError: the logits of a model are not finite, or all equal.
        """
        assert self._guide is not None
        said = [part for one in (advice, *advice.votes) for part in (one.confidence, one.token)]
        base, read = yield from self.read(view, [*said, *row])
        tops = [Candidate(int(read[n + 1]), read[n]) for n in range(0, len(said), 2)]
        top, votes = tops[0], tuple(tops[1:])
        for guide, vote in zip(self._guide.members(), votes or (top,), strict=True):
            self._check_sound(vote.prob, guide.context)
        return base, top, votes, read[len(said) :]

    def check_blend(self, prob: float) -> None:
        """Refuse a probability that the reference model has spoiled; the other two are sound.

        Raises:
            NumericalError: names the model and the position.
        """
        if self._guide is not None and (twin := self._guide.twin()) is not None:
            self._check_sound(prob, twin)

    def _check_sound(self, confidence: float, reader: Reader) -> None:
        rules.check_sound(confidence, reader.model, len(self._answer.ids))

    def is_full(self) -> bool:
        """Return whether one of the contexts has no room for another token."""
        limit = self._base.model.context_limit
        if limit is not None and len(self._prompt) + len(self._answer.ids) >= limit:
            return True
        return self._guide is not None and self._guide.is_full(self._answer)

    def settle(self) -> None:
        """Rewind the contexts to the end of the answer."""
        self._base.move_to(self.tokens())
        if self._drafter.can_draft and self._guide is not None:
            self._guide.settle(self._answer)
