"""The decoding loop: one :class:`Step` per token, in ids and bytes only.

At each position the base is run; where the method's gate is open, or the answer may be over, the
guide is asked; the method's target distribution decides. Gate, weight, blend and choice are one
lazy graph of array operations per model pass, and one small array is read back from it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ..backend.mlx import is_cpu, mx
from ..blend import formulas
from ..blend.methods import Advice, Method, View
from ..blend.sampling import Chooser
from ..drafting.drafter import Speculation
from ..errors import NumericalError
from ..reading.context import Context
from ..reading.guide import Guide
from ..step import Candidate, Source, Step
from ..tokens.answer_text import AnswerText
from .json_constraint import JsonConstraint
from .top_tokens import Shortlist

# When an answer ends, besides stop strings and limits:
# blend   STOP wins the blend, or the base is sure of STOP
# base    also as soon as the base's own top choice is STOP
# either  as blend; also where a sure base opens a new line and the guide finds the answer over
# guide   as either; an end that the base wants is taken back while the guide would go on
StopPolicy = Literal["blend", "base", "either", "guide"]
SURE_OF_STOP = 0.5
# Under the policy `guide`, how many ends of one answer may be taken back.
MAX_TAKEBACKS = 8
# How near a top token's probability is to that of all tokens where they are alike.
LEVEL = 1e-5


@dataclass(frozen=True)
class _Choice:
    """A choice from a distribution, read back."""

    id: int
    prob: float
    gap: float
    stop_prob: float


@dataclass(frozen=True)
class _Consulted:
    """The guide's part in a choice, read back."""

    token: Candidate
    alpha: float
    exact_mass: float
    prefix_mass: float


class Decoder:
    """Decodes one answer; iterate over it for the steps.

    Args:
        base: the base's context; it must hold ``prompt`` but for the last token when iteration
            begins.
        prompt: what the base reads before the answer.
        guide: the aligned model; None only where the method never asks.
        method: gate and target.
        chooser: greedy unless given.
        stop_policy: one of :data:`StopPolicy`.
        speculation: proposes tokens that the base scores in one pass; None scores one at a time.
        max_tokens: no token beyond so many is proposed.
        overlap: without speculation, start the base's next pass before this token is read back,
            and throw it away where the guide decides otherwise. For a GPU, which waits for
            neither; by default just there.
        candidates: how many of the likeliest tokens of each distribution a step names.
        constraint: which tokens may be taken, from whatever distribution decides. The gate looks
            at the base as it is. Nothing but STOP ends such an answer: the policy is ``blend``.

    Raises:
        NumericalError: while iterating, where a model's logits are not finite, or all alike.
        ValueError: an unknown stop policy.
    """

    def __init__(
        self,
        base: Context,
        prompt: Sequence[int],
        guide: Guide | None,
        method: Method,
        chooser: Chooser | None = None,
        stop_policy: StopPolicy = "either",
        speculation: Speculation | None = None,
        max_tokens: int = sys.maxsize,
        overlap: bool | None = None,
        constraint: JsonConstraint | None = None,
        candidates: int = 0,
    ) -> None:
        if stop_policy not in get_args(StopPolicy):
            known = ", ".join(get_args(StopPolicy))
            raise ValueError(f"stop policy must be one of {known}, not {stop_policy!r}")
        self.base = base
        self.guide = guide if method.asks else None
        self.method = method
        self.chooser = chooser or Chooser()
        self.stop_policy: StopPolicy = "blend" if constraint else stop_policy
        self.vocabulary = base.model.vocabulary
        self.answer = AnswerText(self.vocabulary)
        self.takebacks = 0
        self._prompt = list(prompt)
        self._speculation = speculation
        self._max_tokens = max_tokens
        self._constraint = constraint
        self._takes_top = self.chooser.is_greedy and constraint is None
        self._overlaps = (not is_cpu() if overlap is None else overlap) and speculation is None
        self._banned: int | None = None
        self._level: mx.array | float = 0.0
        self._shortlist = Shortlist(candidates)

    def __iter__(self) -> Generator[Step, None, None]:
        try:
            while True:
                step = self._shortlist.added_to(self._decide())
                if self._speculation:
                    self._speculation.decided(step)
                if not step.is_stop:
                    self.answer.append(step.id)
                yield step
                if step.is_stop:
                    return
        finally:
            self._settle()

    def _settle(self) -> None:
        """Leave nothing behind in either context that is not in the answer."""
        self.base.move_to(self._tokens())
        if self._speculation and self.guide is not None:
            self.guide.settle(self.answer)

    def _tokens(self) -> list[int]:
        return [*self._prompt, *self.answer.ids]

    def _decide(self) -> Step:
        view = self._run_base()
        row = [view.confidence, view.token, self._unsure(view)]
        probs = self._permitted(view.probs)
        chosen = view.token if self._takes_top else self._choose(probs)
        if self.stop_policy == "base":  # nothing talks it out of an end, not even a draw
            chosen = mx.where(view.token == self.vocabulary.stop, view.token, chosen)
        if self._overlaps and len(self.answer.ids) + 1 < self._max_tokens:
            self.base.begin(chosen)
        (confidence, top, unsure), choice = self._read(row, probs, chosen)
        self._check_sound(confidence, self.base)
        base = Candidate(int(top), confidence)
        banned, self._banned = self._banned, None
        if self.stop_policy == "base" and base.id == self.vocabulary.stop:
            return self._step(base, choice)
        if self.guide is None or not self.guide.can_read(self.answer):
            return self._step(base, choice)
        if banned is not None:
            return self._without_base(view, base, banned)
        return self._intervene(view, base) if unsure else self._follow_base(view, base, choice)

    def _run_base(self) -> View:
        tokens = self._tokens()
        draft = [] if self.base.knows(tokens) else self._draft()
        logits = self.base.after(tokens, draft)
        self._level = formulas.level(logits, self.vocabulary.size)
        probs = self.vocabulary.distribution(logits)
        self._shortlist.see("base", probs)
        return View(probs, *formulas.top(probs))

    def _unsure(self, view: View) -> mx.array:
        return self.method.unsure(view, self._takes_top)

    def _draft(self) -> list[int]:
        if self._speculation is None:
            return []
        written = len(self.answer.ids)
        limit = self.base.model.context_limit or sys.maxsize
        room = min(self._max_tokens - written, limit - len(self._prompt) - written) - 1
        return self._speculation.draft(self.answer, room)

    def _permitted(self, probs: mx.array) -> mx.array:
        if self._constraint is None:
            return probs
        return self._constraint.permit(probs, self.answer.ids)

    def _choose(self, probs: mx.array) -> mx.array:
        return self.chooser.choose(probs, self._tokens(), self._level)

    def _read(
        self, row: list[mx.array], probs: mx.array, chosen: mx.array
    ) -> tuple[list[float], _Choice]:
        """Read back ``row`` and the facts about a choice, in one array."""
        prob = mx.take_along_axis(probs, chosen[..., None], axis=-1)[..., 0]
        facts = [chosen, prob, formulas.gap(probs, chosen), probs[..., self.vocabulary.stop]]
        values = _read_back([*row, *facts])
        token, *rest = values[len(row) :]
        return values[: len(row)], _Choice(int(token), *rest)

    def _follow_base(self, view: View, base: Candidate, choice: _Choice) -> Step:
        """The gate is shut: the base's choice, unless the guide objects about the end."""
        if choice.id == self.vocabulary.stop:
            if not self._may_take_back():
                return self._step(base, choice)
            advice, over = self._check_end()
            if over >= SURE_OF_STOP:
                return self._step(base, choice, checked=over)
            self.takebacks += 1
            return self._blend(view, base, advice, banned=choice.id)
        if self.stop_policy in ("either", "guide") and self.vocabulary.breaks_line(choice.id):
            _, over = self._check_end()
            if over >= SURE_OF_STOP:
                return self._guide_ends(base, over)
            return self._step(base, choice, checked=over)
        return self._step(base, choice)

    def _intervene(self, view: View, base: Candidate) -> Step:
        """The gate is open: the method's target decides."""
        advice = self._advise()
        step = self._blend(view, base, advice)
        if step.is_stop and self._may_take_back():
            (over,) = _read_back([advice.stop_prob])
            if over < SURE_OF_STOP:
                self.takebacks += 1
                return self._blend(view, base, advice, banned=step.id)
        return step

    def _without_base(self, view: View, base: Candidate, banned: int) -> Step:
        """After an end was taken back: the blend decides, without what the base wrote there."""
        advice, over = self._check_end()
        if over >= SURE_OF_STOP:
            return self._guide_ends(base, over)
        return self._blend(view, base, advice, banned)

    def _blend(
        self, view: View, base: Candidate, advice: Advice, banned: int | None = None
    ) -> Step:
        """Decide by the method's target, without the token ``banned``."""
        assert self.guide is not None
        target = self.method.target(view, advice)
        probs = target.probs if banned is None else formulas.without(target.probs, banned)
        probs = self._permitted(probs)
        self._shortlist.see("blend", probs)
        row = [advice.confidence, advice.token, target.alpha, advice.exact_mass, advice.prefix_mass]
        (confidence, token, *shares), choice = self._read(row, probs, self._choose(probs))
        self._check_sound(confidence, self.guide.context)
        if self.guide.reference is not None:  # the other two are finite
            self._check_sound(choice.prob, self.guide.reference.context)
        consulted = _Consulted(Candidate(int(token), confidence), *shares)
        source: Source = "aligned" if self.method.name == "aligned" else "blend"
        return replace(self._step(base, choice, source, consulted), instead_of=banned)

    def _step(
        self,
        base: Candidate,
        choice: _Choice,
        source: Source = "base",
        consulted: _Consulted | None = None,
        checked: float | None = None,
    ) -> Step:
        tau = getattr(self.method, "tau", None)
        return Step(
            index=len(self.answer.ids),
            id=choice.id,
            source=source,
            base=base,
            aligned=None if consulted is None else consulted.token,
            alpha=None if consulted is None else consulted.alpha,
            prob=choice.prob,
            exact_mass=None if consulted is None else consulted.exact_mass,
            prefix_mass=None if consulted is None else consulted.prefix_mass,
            stop_prob=choice.stop_prob if checked is None else checked,
            gate_margin=None if tau is None else base.prob - tau,
            gap=choice.gap,
            is_stop=choice.id == self.vocabulary.stop,
            stop_check=checked is not None,
        )

    def _guide_ends(self, base: Candidate, over: float) -> Step:
        choice = _Choice(self.vocabulary.stop, prob=over, gap=2 * over - 1, stop_prob=over)
        return self._step(base, choice, "aligned", checked=over)

    def _check_end(self) -> tuple[Advice, float]:
        """Ask the guide whether the answer so far is over: its advice and P_g(STOP)."""
        assert self.guide is not None
        advice = self._advise()
        confidence, over = _read_back([advice.confidence, advice.stop_prob])
        self._check_sound(confidence, self.guide.context)
        return advice, over

    def _advise(self) -> Advice:
        assert self.guide is not None
        advice = self.guide.advise(self.answer)
        self._shortlist.see("aligned", advice.own_probs)
        return advice

    def _may_take_back(self) -> bool:
        return self.stop_policy == "guide" and self.takebacks < MAX_TAKEBACKS

    def take_back(self, length: int) -> bool:
        """Undo the answer from token ``length`` on; the guide decides there, without that token.

        Called where the base began the next turn itself.

        Returns:
            Whether it was done: only under the policy ``guide``, and not too often.
        """
        if self.guide is None or not self._may_take_back():
            return False
        self._banned = self.answer.ids[length]
        self.answer.rewind(length)
        if self._speculation:
            self._speculation.forget()
        self.takebacks += 1
        return True

    def is_full(self) -> bool:
        """Whether one of the two contexts has no room for another token."""
        limit = self.base.model.context_limit
        if limit is not None and len(self._prompt) + len(self.answer.ids) >= limit:
            return True
        return self.guide is not None and self.guide.is_full(self.answer)

    def _check_sound(self, confidence: float, context: Context) -> None:
        vocabulary = context.model.vocabulary
        if not math.isfinite(confidence):
            wrong = "logits that are not finite"
        elif math.isclose(confidence, len(vocabulary.stop_ids) / vocabulary.size, rel_tol=LEVEL):
            wrong = "the same logit for every token"  # STOP leads, if there are several of them
        else:
            return
        raise NumericalError(
            f"{context.model.name} produced {wrong} at token {len(self.answer.ids)} of the answer; "
            "its weights may be damaged"
        )


def _read_back(row: Sequence[mx.array]) -> list[float]:
    """One small array from the graph; ids are exact in float32 up to 2**24."""
    values: Any = mx.stack([part.reshape(()).astype(mx.float32) for part in row]).tolist()
    return list(values)
