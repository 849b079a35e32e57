"""The replay of a recorded run, step by step.

The base reads the finished answer, many positions per pass; the guide is asked wherever the trace
says that it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..backend.mlx import mx
from ..blend import formulas
from ..blend.dial import Dialled, base_temperature
from ..blend.method import Advice, Method, View
from ..blend.methods import make_method, option_names
from ..blend.sampling import Chooser, repetition_penalty
from ..decoding import rules
from ..decoding.json_constraint import JsonConstraint
from ..decoding.top_tokens import likeliest
from ..model import LanguageModel, Pair
from ..prompt_cache import PromptCache, make_prompt_cache
from ..reading.advisor import Advisor
from ..reading.context import HEAD_ROWS, Context
from ..reading.make_guide import make_guide
from ..step import Candidate
from ..tokens.answer_text import AnswerText
from ..tokens.projection import ProjectionRule
from .records import TraceRecord, candidate_record, vote_records

# With a quantized cache, results depend on the passes in which keys and values were rounded.
QUANTIZED_TOLERANCE = 0.05
# Two tokens this close may change places with another summation order.
_NEAR_TIE = 1e-4
_MLX_LM_CONTEXT_SIZE = 20  # of a repetition penalty


class Replay:
    """A recorded run: its settings, and the base's distribution at every position.

    Args:
        pair: the models of the run.
        run: its first record.
        steps: its steps.
        ended: true if the trace has its end record, so that no text was withheld.
    """

    def __init__(
        self, pair: Pair, run: TraceRecord, steps: Sequence[TraceRecord], ended: bool
    ) -> None:
        self.pair = pair
        self.kv_bits: int | None = run.get("kv_bits")
        self.near_tie = _NEAR_TIE if self.kv_bits is None else QUANTIZED_TOLERANCE
        pair.limit_context(run.get("context"))
        self.method = _method(run)
        self.constraint: JsonConstraint | None = None
        if run.get("json_schema") is not None:
            self.constraint = JsonConstraint(pair.base.vocabulary, run["json_schema"])
        self.policy = rules.policy_in_force(run["stop_policy"], self.constraint is not None)
        self.drawn = run.get("temp", 0) != 0
        self.penalty = run.get("repetition_penalty") or 1.0
        size = run.get("repetition_context_size", _MLX_LM_CONTEXT_SIZE)
        self.chooser = Chooser(None, repetition_penalty(run.get("repetition_penalty"), size))
        self.vocabulary = pair.base.vocabulary
        self.answer = AnswerText(self.vocabulary)
        ids = [step["id"] for step in steps]
        # Bytes of an incomplete character are shown with the last token that writes.
        writing = [n for n, token in enumerate(ids) if token != self.vocabulary.stop]
        self.last = writing[-1] if ended and writing else None
        # Prompts are read in the passes of the run: a quantized cache is rounded between passes.
        cache = make_prompt_cache(pair, kv_bits=self.kv_bits)
        self.prompt = run["base_prompt"]["ids"]
        self.level: mx.array | float = 0.0
        self.views = self._read_base(cache.base, ids)
        self.guide = self._read_prompt(cache, run) if self.method.asks else None

    def _read_prompt(self, cache: PromptCache, run: TraceRecord) -> Advisor:
        """Return the guide after it has read its prompt."""
        prompts = [one["ids"] for one in (run["aligned_prompt"], *run.get("other_prompts", []))]
        rule: ProjectionRule = run.get("projection") or "prefix"
        guide = make_guide(self.pair, cache, self.method, rule, prompts)
        for context, prompt in guide.openings():
            context.prefill(prompt[:-1])
        return guide

    def _read_base(self, context: Context, ids: list[int]) -> Iterator[View]:
        """Yield what the base says at each position; ``level`` is that of its logits there."""
        context.prefill(self.prompt[:-1])
        unread = [self.prompt[-1], *ids[:-1]]
        for start in range(0, len(unread), HEAD_ROWS):
            part = unread[start : start + HEAD_ROWS]
            logits = context.read(part, rows=len(part))
            logits = formulas.tempered(logits, base_temperature(self.method))
            for row in range(len(part)):
                probs = self.vocabulary.distribution(logits[row : row + 1])
                self.level = formulas.level(logits[row : row + 1], self.vocabulary.size)
                yield View(probs, *formulas.top(probs))

    def _needs_base(self) -> bool:
        """Return whether the base had to be run at this position; traces may have it elsewhere."""
        can_ask = self.guide is not None and self.guide.can_read(self.answer)
        return not can_ask or rules.needs_base(self.method, self.policy, self.chooser)

    def _permitted(self, probs: mx.array, banned: int | None = None) -> mx.array:
        allowed = None if self.constraint is None else self.constraint.allowed(self.answer.ids)
        return rules.permitted(probs, banned, allowed)

    def _unsure(self, view: View, step: TraceRecord) -> bool:
        """Return whether the gate was open; as recorded where rounding may have decided that."""
        margin = self._gate_margin(view)
        if margin is not None and self.method.asks and abs(margin) < self.near_tie:
            return step["alpha"] is not None
        takes_top = self.chooser.is_greedy and not self.drawn and self.constraint is None
        return bool(_item(self.method.unsure(view, takes_top)))

    def _gate_margin(self, view: View) -> float | None:
        margin = self.method.gate_margin(view)
        return None if margin is None else _item(margin)

    def expect(self, index: int, step: TraceRecord) -> TraceRecord:
        """Return the expected values of a record, given the token that it says was chosen.

        Steps must be passed in order.
        """
        view = next(self.views)
        token = step["id"]
        runs_base = step["base"] is not None or self._needs_base()
        asked = step["alpha"] is not None or step["stop_check"]
        advice = self.guide.advise(self.answer) if self.guide and asked else None
        expected = self._decided(view, advice, step)
        if "candidates" in step:
            expected["candidates"] = self._candidates(view, advice, step)
        before = len(self.answer.text)
        if token != self.vocabulary.stop:
            self.answer.append(token)
        if index == self.last:
            self.answer.finish()
        base = candidate_record(_item(view.token), _item(view.confidence), self.pair.base)
        margin = self._gate_margin(view) if runs_base else None
        expected |= {"index": index, "base": base if runs_base else None, "gate_margin": margin}
        expected["text"] = self.answer.text[before:]
        return expected

    def _candidates(self, view: View, advice: Advice | None, step: TraceRecord) -> TraceRecord:
        """Return the likeliest tokens of each known distribution, as many as are recorded."""
        recorded, pair = step.get("candidates", {}), self.pair
        lists: TraceRecord = {"base": [], "aligned": [], "blend": []}
        if step["base"] is not None:
            lists["base"] = self._ranked(view.probs, recorded.get("base"), pair.base)
        if advice is not None and advice.own_probs is not None:
            lists["aligned"] = self._ranked(advice.own_probs, recorded.get("aligned"), pair.voter)
            if step["alpha"] is not None:
                target = self.method.target(view, advice)
                probs = self._permitted(target.probs, step["instead_of"])
                lists["blend"] = self._ranked(probs, recorded.get("blend"), pair.base)
        return lists

    def _ranked(self, probs: mx.array, recorded: Any, model: LanguageModel) -> list[TraceRecord]:
        """Return the likeliest tokens; of two that are equally likely, the recorded one."""
        given = recorded or [{"id": -1}]
        ranked = []
        for one, other in zip(likeliest(probs, len(given)), given, strict=False):
            token = other["id"]
            known = 0 <= token < probs.shape[-1]
            alike = known and abs(_item(probs[0, token]) - one.prob) < self.near_tie
            ranked.append(candidate_record(token if alike else one.id, one.prob, model))
        return ranked

    def _decided(self, view: View, advice: Advice | None, step: TraceRecord) -> TraceRecord:
        if step["alpha"] is not None and advice is not None:
            return self._blended(view, advice, step)
        forced = rules.is_forced_end(self.policy, _item(view.token), self.vocabulary.stop)
        asked = self._question(view, step, forced)
        over = None if advice is None else _item(advice.stop_prob)
        verdict = rules.verdict(asked, over is not None and self._is_over(over, step))
        nothing = ("aligned", "exact_mass", "prefix_mass", "instead_of")
        expected: TraceRecord = dict.fromkeys(nothing)
        expected["alpha"] = "a weight" if verdict == "blend" else None
        expected["stop_check"] = asked not in ("nothing", "next")
        if verdict == "stop" and over is not None:
            ended = {"id": self.vocabulary.stop, "source": "aligned", "prob": over}
            return {**expected, **ended, "stop_prob": over, "gap": 2 * over - 1}
        stop = self.vocabulary.stop if forced else None
        chosen = self._choice(self._permitted(view.probs), step["id"], stop)
        if expected["stop_check"] and over is not None:
            chosen["stop_prob"] = over
        return {**expected, **chosen, "source": "base"}

    def _question(self, view: View, step: TraceRecord, forced: bool) -> rules.Question:
        """Return what the guide was asked at a step without a recorded weight.

        A trace does not record what the base drew if the guide ended the answer, how many ends had
        been taken back, and whether one was undone if the guide then ended the answer.
        """
        if self.guide is None or not self.guide.can_read(self.answer):
            return "nothing"
        stop, by_guide = self.vocabulary.stop, step["source"] == "aligned"
        unknown = by_guide and self.drawn
        token = self._follows(self._permitted(view.probs), step["id"])
        takes_back = rules.may_take_back(self.policy, 0) and step["stop_check"]
        return rules.question(
            self.policy,
            forced=forced,
            ends=token == stop and not unknown,
            opens_line=unknown or self.vocabulary.breaks_line(token),
            unsure=self._unsure(view, step),
            takes_back=takes_back,
            undone=takes_back and by_guide,
        )

    def _is_over(self, over: float, step: TraceRecord) -> bool:
        """Return whether the guide found the answer over; as recorded where rounding decides."""
        if abs(over - rules.SURE_OF_STOP) < self.near_tie:
            return bool(step["id"] == self.vocabulary.stop)
        return rules.is_over(over)

    def _blended(self, view: View, advice: Advice, step: TraceRecord) -> TraceRecord:
        target = self.method.target(view, advice)
        opened = self._unsure(view, step) or step["instead_of"] is not None
        token = _item(advice.token)
        return {
            **self._choice(self._permitted(target.probs, step["instead_of"]), step["id"]),
            "source": rules.source(self.method),
            "aligned": candidate_record(token, _item(advice.confidence), self.pair.voter),
            **self._votes(advice),
            "alpha": _item(target.alpha) if opened else None,
            "exact_mass": _item(advice.exact_mass),
            "prefix_mass": _item(advice.prefix_mass),
            "stop_check": False,
        }

    def _votes(self, advice: Advice) -> TraceRecord:
        votes = [Candidate(_item(one.token), _item(one.confidence)) for one in advice.votes]
        return {"votes": vote_records(votes, self.pair)} if votes else {}

    def _choice(self, probs: mx.array, token: int, forced: int | None = None) -> TraceRecord:
        """Return the facts about the recorded choice, and the choice that follows."""
        facts = rules.choice_facts(probs, mx.array([token]), self.vocabulary.stop)
        choice = rules.Choice(*map(_item, facts))
        follows = self._follows(probs, token) if forced is None else forced
        return {**choice._asdict(), "id": follows}

    def _follows(self, probs: mx.array, token: int) -> int:
        """Return the token that is chosen; ``token`` if a draw or rounding may have chosen it."""
        if self.drawn and _item(probs[0, token]) > 0:
            return token
        tie = self.near_tie
        if not self.drawn and not self.chooser.is_greedy:
            said = [*self.prompt, *self.answer.ids]
            probs = mx.exp(self.chooser.scores(probs, said, self.level))
            tie *= max(self.penalty, 1 / self.penalty)  # it multiplies the error of a logit, too
        best: int = _item(probs.argmax())
        return token if _item(probs[0, best] - probs[0, token]) < tie else best


def _item(value: mx.array) -> Any:
    return value.item()


def _method(run: TraceRecord) -> Method:
    recorded: TraceRecord = {
        "tau": run.get("tau"),
        "gate": run.get("gate") or "confidence",
        "alpha": run.get("alpha"),
        "lambda_": run.get("lambda"),
        "beta": run.get("beta"),
    }
    taken = option_names(run["method"])
    method = make_method(run["method"], **{name: recorded[name] for name in taken})
    turned = [run.get(name, 1.0) for name in ("dial", "guide_temp", "temper")]
    return method if turned == [1.0] * 3 else Dialled(method, *turned)
