"""The decoding loop: one :class:`Step` per token, in ids and bytes only.

At each position the base is run; where the method's gate is open, or the answer may be over, the
guide is asked; the method's target distribution decides. Gate, weight, blend and choice are one
lazy graph of array operations per model pass, and one small array is read back from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from ..backend.mlx import is_cpu, mx
from ..blend import formulas
from ..blend.method import Advice, Method, View
from ..blend.sampling import Chooser
from ..drafting.drafter import Drafter
from ..reading.guide import Guide
from ..reading.reader import Reader
from ..reading.requests import Deciding, logits_after, values
from ..step import Candidate, Guidance, Source, Step
from ..tokens.answer_text import AnswerText
from . import rules
from .json_constraint import JsonConstraint
from .rules import Choice, StopPolicy
from .top_tokens import Shortlist


class Decoder:
    """The decoder of one answer.

    :meth:`step` decides the next token and writes it to the answer, :meth:`take_back` undoes some,
    :meth:`settle` ends it. No step may follow one that is a stop.

    Args:
        base: the base's context; it must hold ``prompt`` but for the last token before the first
            step.
        prompt: what the base reads before the answer.
        answer: gets the tokens.
        guide: the aligned model; None only if the method never asks.
        method: gate and target.
        chooser: greedy unless given.
        stop_policy: one of :data:`StopPolicy`.
        drafter: drafts tokens that the base scores in one pass; None scores one at a time.
        max_tokens: no token beyond so many is drafted.
        overlap: without drafts, start the base's next pass before this token is read back, and
            discard it if the guide decides otherwise. The default is True on a GPU only.
        candidates: how many of the likeliest tokens of each distribution a step names.
        constraint: restricts the tokens of the distribution that decides; the gate sees the
            unrestricted base. Only STOP ends such an answer: the policy is ``blend``.

    Raises:
        ValueError: an unknown stop policy.
    """

    def __init__(
        self,
        base: Reader,
        prompt: Sequence[int],
        answer: AnswerText,
        guide: Guide | None,
        method: Method,
        chooser: Chooser | None = None,
        stop_policy: StopPolicy = "either",
        drafter: Drafter | None = None,
        max_tokens: int = sys.maxsize,
        overlap: bool | None = None,
        constraint: JsonConstraint | None = None,
        candidates: int = 0,
    ) -> None:
        self._base = base
        self._guide = guide if method.asks else None
        self._method = method
        self._chooser = chooser or Chooser()
        self._stop_policy = rules.policy_in_force(stop_policy, constraint is not None)
        self._vocabulary = base.model.vocabulary
        self._answer = answer
        self._takebacks = 0
        self._prompt = list(prompt)
        self._drafter = drafter or Drafter("off")
        self._max_tokens = max_tokens
        self._constraint = constraint
        self._takes_top = self._chooser.is_greedy and constraint is None
        overlaps = not is_cpu() if overlap is None else overlap
        self._overlaps = overlaps and not self._drafter.can_draft
        self._banned: int | None = None
        self._level: mx.array | float = 0.0
        self._shortlist = Shortlist(candidates)

    def step(self) -> Deciding[Step]:
        """Decide the next token, and write it to the answer unless it is STOP.

        The passes and numbers that this takes are asked for, see :mod:`.requests`.

        Raises:
            NumericalError: a model's logits are not finite, or all equal.
        """
        step = self._shortlist.added_to((yield from self._decide()))
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
        if self._guide is None or not self._takes_back():
            return False
        self._banned = self._undo(self._answer.ids[length])
        self._answer.rewind(length)
        self._drafter.forget()
        return True

    def is_full(self) -> bool:
        """Return whether one of the contexts has no room for another token."""
        limit = self._base.model.context_limit
        if limit is not None and len(self._prompt) + len(self._answer.ids) >= limit:
            return True
        return self._guide is not None and self._guide.is_full(self._answer)

    def settle(self) -> None:
        """Rewind the contexts to the end of the answer."""
        self._base.move_to(self._tokens())
        if self._drafter.can_draft and self._guide is not None:
            self._guide.settle(self._answer)

    def _tokens(self) -> list[int]:
        return [*self._prompt, *self._answer.ids]

    def _decide(self) -> Deciding[Step]:
        view = yield from self._run_base()
        base, choice, unsure = yield from self._base_choice(view)
        undone, self._banned = self._banned, None
        asked = self._question(base, choice, unsure, undone is not None)
        if asked == "nothing":
            return self._step(base, choice)
        advice = yield from self._advise()
        if asked != "next":
            over = yield from self._stop_prob(advice)
            verdict = rules.verdict(asked, rules.is_over(over))
            if verdict == "base":
                return self._step(base, choice, checked=over)
            if verdict == "stop":
                return self._guide_ends(base, over)
        if asked == "end":
            undone = self._undo(choice.id)
        step = yield from self._blend(view, base, advice, undone)
        ends = asked == "next" and step.is_stop and self._takes_back()
        if ends and not rules.is_over((yield from self._stop_prob(advice))):
            return (yield from self._blend(view, base, advice, self._undo(step.id)))
        return step

    def _question(
        self, base: Candidate, choice: Choice, unsure: bool, undone: bool
    ) -> rules.Question:
        if self._guide is None or not self._guide.can_read(self._answer):
            return "nothing"
        stop = self._vocabulary.stop
        return rules.question(
            self._stop_policy,
            forced=rules.is_forced_end(self._stop_policy, base.id, stop),
            ends=choice.id == stop,
            opens_line=self._vocabulary.breaks_line(choice.id),
            unsure=unsure,
            takes_back=self._takes_back(),
            undone=undone,
        )

    def _base_choice(self, view: View) -> Deciding[tuple[Candidate, Choice, bool]]:
        """Return the base's top token, what is taken if it decides, and whether it is unsure."""
        probs = self._permitted(view.probs)
        drawn = view.token if self._takes_top else self._choose(probs)
        stop = self._vocabulary.stop
        chosen = rules.with_forced_ends(self._stop_policy, drawn, view.token, stop)
        if self._overlaps and len(self._answer.ids) + 1 < self._max_tokens:
            self._base.begin(chosen)
        gate = self._method.unsure(view, self._takes_top)
        (confidence, top, unsure), choice = yield from self._read(
            [view.confidence, view.token, gate], probs, chosen
        )
        self._check_sound(confidence, self._base)
        return Candidate(int(top), confidence), choice, bool(unsure)

    def _run_base(self) -> Deciding[View]:
        tokens = self._tokens()
        draft = [] if self._base.knows(tokens) else self._draft()
        logits = yield from logits_after(self._base, tokens, draft)
        self._level = formulas.level(logits, self._vocabulary.size)
        probs = self._vocabulary.distribution(logits)
        self._shortlist.see("base", probs)
        return View(probs, *formulas.top(probs))

    def _draft(self) -> list[int]:
        written = len(self._answer.ids)
        limit = self._base.model.context_limit or sys.maxsize
        room = min(self._max_tokens - written, limit - len(self._prompt) - written) - 1
        return self._drafter.draft(self._answer, room)

    def _permitted(self, probs: mx.array, banned: int | None = None) -> mx.array:
        allowed = None if self._constraint is None else self._constraint.allowed(self._answer.ids)
        return rules.permitted(probs, banned, allowed)

    def _choose(self, probs: mx.array) -> mx.array:
        return self._chooser.choose(probs, self._tokens(), self._level)

    def _read(
        self, row: list[mx.array], probs: mx.array, chosen: mx.array
    ) -> Deciding[tuple[list[float], Choice]]:
        """Read back ``row`` and the facts about a choice, in one array."""
        facts = rules.choice_facts(probs, chosen, self._vocabulary.stop)
        read = yield from values([*row, *facts])
        token, *rest = read[len(row) :]
        return read[: len(row)], Choice(int(token), *rest)

    def _blend(
        self, view: View, base: Candidate, advice: Advice, banned: int | None = None
    ) -> Deciding[Step]:
        """Decide by the method's target, without the token ``banned``."""
        assert self._guide is not None
        target = self._method.target(view, advice)
        probs = self._permitted(target.probs, banned)
        self._shortlist.see("blend", probs)
        row = [advice.confidence, advice.token, target.alpha, advice.exact_mass, advice.prefix_mass]
        (confidence, token, *shares), choice = yield from self._read(
            row, probs, self._choose(probs)
        )
        self._check_sound(confidence, self._guide.context)
        if self._guide.reference is not None:  # the other two are finite
            self._check_sound(choice.prob, self._guide.reference.context)
        guidance = Guidance(Candidate(int(token), confidence), *shares)
        step = self._step(base, choice, rules.source(self._method), guidance)
        return replace(step, instead_of=banned)

    def _step(
        self,
        base: Candidate,
        choice: Choice,
        source: Source = "base",
        guidance: Guidance | None = None,
        checked: float | None = None,
    ) -> Step:
        return Step(
            index=len(self._answer.ids),
            id=choice.id,
            source=source,
            base=base,
            guidance=guidance,
            prob=choice.prob,
            stop_prob=choice.stop_prob if checked is None else checked,
            gate_margin=rules.gate_margin(self._method, base.prob),
            gap=choice.gap,
            is_stop=choice.id == self._vocabulary.stop,
            stop_check=checked is not None,
        )

    def _guide_ends(self, base: Candidate, over: float) -> Step:
        choice = Choice(self._vocabulary.stop, prob=over, gap=2 * over - 1, stop_prob=over)
        return self._step(base, choice, "aligned", checked=over)

    def _stop_prob(self, advice: Advice) -> Deciding[float]:
        """Return P_g(STOP), the guide's probability that the answer so far is over."""
        assert self._guide is not None
        confidence, over = yield from values([advice.confidence, advice.stop_prob])
        self._check_sound(confidence, self._guide.context)
        return over

    def _advise(self) -> Deciding[Advice]:
        assert self._guide is not None
        advice = yield from self._guide.advising(self._answer)
        self._shortlist.see("aligned", advice.own_probs)
        return advice

    def _takes_back(self) -> bool:
        return rules.may_take_back(self._stop_policy, self._takebacks)

    def _undo(self, token: int) -> int:
        """Count an end taken back; return the token that began it, to ban it."""
        self._takebacks += 1
        return token

    def _check_sound(self, confidence: float, context: Reader) -> None:
        rules.check_sound(confidence, context.model, len(self._answer.ids))
