"""The decoding loop: one :class:`Step` per token, in ids and bytes only.

At each position the base is run; where the method's gate is open, or the answer may be over, the
guide is asked; the method's target distribution decides. Gate, weight, blend and choice are one
lazy graph of array operations per model pass, and one small array is read back from it. Where the
guide is asked whatever the base says, both passes are one graph.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from ..backend.mlx import mx
from ..blend.method import Advice, Method, View
from ..blend.sampling import Chooser
from ..drafting.drafter import Drafter
from ..reading.advisor import Advisor
from ..reading.reader import Reader
from ..reading.requests import Deciding
from ..step import Guidance, Source, Step
from ..tokens.answer_text import AnswerText
from . import rules
from .json_constraint import JsonConstraint
from .rules import Choice, StopPolicy
from .two_models import BaseRead, TwoModels


class Decoder:
    """The decoder of one answer.

    :meth:`step` decides the next token and writes it to the answer, :meth:`take_back` undoes some,
    :meth:`settle` ends it. No step may follow one that is a stop.

    Args:
        base: the base's context; it must hold ``prompt`` but for the last token before the first
            step, if it is run.
        prompt: what the base reads before the answer.
        answer: gets the tokens.
        guide: the aligned model; None only if the method never asks.
        method: gate and target.
        chooser: greedy unless given.
        stop_policy: one of :data:`StopPolicy`.
        drafter: drafts tokens that the base scores in one pass; None scores one at a time.
        max_tokens: no token beyond so many is drafted.
        constraint: restricts the tokens of the distribution that decides; the gate sees the
            unrestricted base. Only STOP ends such an answer: the policy is ``blend``.
        candidates: how many of the likeliest tokens of each distribution a step names.

    Attributes:
        runs_base: False if the guide writes alone: the base is run only to complete a character.

    Raises:
        ValueError: an unknown stop policy.
    """

    def __init__(
        self,
        base: Reader,
        prompt: Sequence[int],
        answer: AnswerText,
        guide: Advisor | None,
        method: Method,
        chooser: Chooser | None = None,
        stop_policy: StopPolicy = "either",
        drafter: Drafter | None = None,
        max_tokens: int = sys.maxsize,
        constraint: JsonConstraint | None = None,
        candidates: int = 0,
    ) -> None:
        self._method = method
        self._chooser = chooser or Chooser()
        self._stop_policy = rules.policy_in_force(stop_policy, constraint is not None)
        self._vocabulary = base.model.vocabulary
        self._answer = answer
        self._drafter = drafter or Drafter("off")
        self._constraint = constraint
        guide = guide if method.asks else None
        self._models = TwoModels(
            base, prompt, answer, guide, method, self._drafter, max_tokens, candidates
        )
        self._takes_top = self._chooser.is_greedy and constraint is None
        self.runs_base = rules.needs_base(method, self._stop_policy, self._chooser)
        # A forced end of the base comes before any question.
        self._always_asks = method.always_asks(self._takes_top) and self._stop_policy != "base"
        self._can_take_back = guide is not None
        self._takebacks = 0
        self._banned: int | None = None

    def step(self) -> Deciding[Step]:
        """Decide the next token, and write it to the answer unless it is STOP.

        The passes and numbers that this takes are asked for, see :mod:`.requests`.

        Raises:
            NumericalError: a model's logits are not finite, or all equal.
        """
        step = self._models.shortlist.added_to((yield from self._decide()))
        self._drafter.learn(step)
        if not step.is_stop:
            self._answer.append(step.id)
        return step

    def take_back(self, length: int) -> bool:
        """Undo the answer from token ``length`` on; the guide decides there, without that token.

        It is called when the base began the next turn itself.

        Returns:
            True if it was done: only under the policy ``guide``, and a bounded number of times.
        """
        if not self._can_take_back or not self._takes_back():
            return False
        self._banned = self._undo(self._answer.ids[length])
        self._answer.rewind(length)
        self._drafter.forget()
        return True

    def is_full(self) -> bool:
        """Return whether one of the contexts has no room for another token."""
        return self._models.is_full()

    def settle(self) -> None:
        """Rewind the contexts to the end of the answer."""
        self._models.settle()

    def _decide(self) -> Deciding[Step]:
        undone, self._banned = self._banned, None
        can_ask = self._models.can_ask()
        wanted: rules.Question = "next" if undone is None else "undone"
        if can_ask and not self.runs_base:
            return (yield from self._ask(None, wanted, undone))
        view = yield from self._models.run_base()
        if can_ask and self._always_asks:
            return (yield from self._ask(view, wanted, undone))
        chosen = self._base_choice(view)
        if can_ask and (yield from self._is_open(view)):
            return (yield from self._ask(view, wanted, undone))
        base, choice, unsure = yield from self._read_base(view, chosen)
        asked = self._question(base, choice, unsure, undone is not None) if can_ask else "nothing"
        if asked == "nothing":
            return self._step(base, choice)
        return (yield from self._ask(view, asked, undone, choice))

    def _ask(
        self,
        view: View | None,
        asked: rules.Question,
        banned: int | None,
        choice: Choice | None = None,
    ) -> Deciding[Step]:
        """Ask the guide, and decide.

        Args:
            view: what the base says; None if it was not run.
            asked: the question.
            banned: the token that began an end taken back here.
            choice: the base's, if the question depends on it.
        """
        advice = yield from self._models.ask_guide()
        if asked != "next":
            base, over = yield from self._stop_prob(view, advice)
            verdict = rules.verdict(asked, rules.is_over(over))
            if verdict == "base" and choice is not None:
                return self._step(base, choice, checked=over)
            if verdict == "stop":
                return self._guide_ends(base, over)
        if asked == "end":
            banned = self._undo(self._vocabulary.stop)
        step = yield from self._blend(view, advice, banned)
        if asked == "next" and step.is_stop and self._takes_back():
            _, over = yield from self._stop_prob(view, advice)
            if not rules.is_over(over):
                return (yield from self._blend(view, advice, self._undo(step.id)))
        return step

    def _is_open(self, view: View) -> Deciding[bool]:
        """Return whether the gate is known to be open before the base's choice is read.

        A draw from a large vocabulary is not computed then. Where the base's choice costs nothing,
        or is at work already, both are read together.
        """
        if self._takes_top or self._models.overlaps or self._stop_policy == "base":
            return False
        _, (unsure,) = yield from self._models.read(view, [self._method.unsure(view, False)])
        return bool(unsure)

    def _question(
        self, base: BaseRead | None, choice: Choice, unsure: bool, undone: bool
    ) -> rules.Question:
        stop = self._vocabulary.stop
        return rules.question(
            self._stop_policy,
            forced=base is not None and rules.is_forced_end(self._stop_policy, base.top.id, stop),
            ends=choice.id == stop,
            opens_line=self._vocabulary.breaks_line(choice.id),
            unsure=unsure,
            takes_back=self._takes_back(),
            undone=undone,
        )

    def _base_choice(self, view: View) -> mx.array:
        """Return what is taken if the base decides, lazily."""
        drawn = view.token if self._takes_top else self._choose(self._permitted(view.probs))
        stop = self._vocabulary.stop
        chosen = rules.with_forced_ends(self._stop_policy, drawn, view.token, stop)
        self._models.begin_base(chosen)
        return chosen

    def _read_base(
        self, view: View, chosen: mx.array
    ) -> Deciding[tuple[BaseRead | None, Choice, bool]]:
        """Return what was read of the base, its choice, and whether the gate is open."""
        gate = self._method.unsure(view, self._takes_top)
        facts = self._facts(self._permitted(view.probs), chosen)
        base, (unsure, *read) = yield from self._models.read(view, [gate, *facts])
        return base, rules.read_choice(read), bool(unsure)

    def _permitted(self, probs: mx.array, banned: int | None = None) -> mx.array:
        allowed = None if self._constraint is None else self._constraint.allowed(self._answer.ids)
        return rules.permitted(probs, banned, allowed)

    def _choose(self, probs: mx.array) -> mx.array:
        return self._chooser.choose(probs, self._models.tokens(), self._models.level)

    def _facts(self, probs: mx.array, chosen: mx.array) -> list[mx.array]:
        return rules.choice_facts(probs, chosen, self._vocabulary.stop)

    def _blend(
        self, view: View | None, advice: Advice, banned: int | None = None
    ) -> Deciding[Step]:
        """Decide by the method's target, without the token ``banned``."""
        target = self._method.target(view or advice.as_view(), advice)
        probs = self._permitted(target.probs, banned)
        self._models.shortlist.see("blend", probs)
        chosen = self._choose(probs)
        if self._always_asks:
            if view is not None:
                self._models.begin_base(chosen)
            self._models.begin_guide(chosen)
        shares = [target.alpha, advice.exact_mass, advice.prefix_mass]
        base, top, votes, read = yield from self._models.read_advised(
            view, advice, [*shares, *self._facts(probs, chosen)]
        )
        alpha, exact_mass, prefix_mass, *facts = read
        choice = rules.read_choice(facts)
        self._models.check_blend(choice.prob)
        guidance = Guidance(top, alpha, exact_mass, prefix_mass, votes)
        step = self._step(base, choice, rules.source(self._method), guidance)
        return replace(step, instead_of=banned)

    def _step(
        self,
        base: BaseRead | None,
        choice: Choice,
        source: Source = "base",
        guidance: Guidance | None = None,
        checked: float | None = None,
    ) -> Step:
        return Step(
            index=len(self._answer.ids),
            id=choice.id,
            source=source,
            base=None if base is None else base.top,
            guidance=guidance,
            prob=choice.prob,
            stop_prob=choice.stop_prob if checked is None else checked,
            gate_margin=None if base is None else base.gate_margin,
            gap=choice.gap,
            is_stop=choice.id == self._vocabulary.stop,
            stop_check=checked is not None,
        )

    def _guide_ends(self, base: BaseRead | None, over: float) -> Step:
        choice = Choice(self._vocabulary.stop, prob=over, gap=2 * over - 1, stop_prob=over)
        return self._step(base, choice, "aligned", checked=over)

    def _stop_prob(
        self, view: View | None, advice: Advice
    ) -> Deciding[tuple[BaseRead | None, float]]:
        """Return what was read of the base, and P_g(STOP): how surely the answer so far is over."""
        base, _, _, (over,) = yield from self._models.read_advised(view, advice, [advice.stop_prob])
        return base, over

    def _takes_back(self) -> bool:
        return rules.may_take_back(self._stop_policy, self._takebacks)

    def _undo(self, token: int) -> int:
        """Count an end taken back; return the token that began it, to ban it."""
        self._takebacks += 1
        return token
