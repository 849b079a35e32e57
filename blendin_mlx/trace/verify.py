"""Does a recorded run follow from its models? Each step of a trace is computed again and compared.

The base reads the finished answer anew, many positions per pass; the guide is asked again wherever
the trace says that it was. A trace of the same models, from whatever program, follows when every
recorded value is within ``tolerance`` and every choice is the one that the method makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..backend.mlx import mx
from ..blend import formulas
from ..blend.methods import Advice, Method, View, make_method, option_names
from ..decoding.decoder import SURE_OF_STOP
from ..decoding.json_constraint import JsonConstraint
from ..decoding.top_tokens import likeliest
from ..errors import TraceError
from ..model import LanguageModel, Pair
from ..reading.context import HEAD_ROWS, Context
from ..reading.guide import Guide, Reference
from ..tokens.answer_text import AnswerText
from ..tokens.projection import ProjectionRule
from .records import RULES, Record, candidate_record

TOLERANCE = 1e-3
# Keys and values that were rounded before they were read: what they say hangs on when that was.
QUANTIZED_TOLERANCE = 0.05
# Two tokens that close may change places from one summation order to another.
NEAR_TIE = 1e-4


@dataclass(frozen=True)
class Mismatch:
    """The first recorded value that does not follow."""

    index: int
    field: str
    recorded: Any
    computed: Any

    def __str__(self) -> str:
        return (
            f"step {self.index}: {self.field} is recorded as {self.recorded!r} "
            f"and follows as {self.computed!r}"
        )


def tolerance_of(run: Record) -> float:
    """How far a recorded probability may be off: more where the caches were quantized."""
    return TOLERANCE if run.get("kv_bits") is None else QUANTIZED_TOLERANCE


def verify(
    pair: Pair, records: Sequence[Record], tolerance: float | None = None
) -> Mismatch | None:
    """The first step that does not follow from the models, None where all do.

    Args:
        records: a trace, as :func:`.records.read_trace` gives it.
        tolerance: how far a probability may be off; see :func:`tolerance_of` for the default.

    Raises:
        TraceError: there is no ``run`` record first, a setting is not known, or the trace was
            written under other rules.
        SchemaError: answers cannot be held to the recorded JSON schema here.
    """
    if not records or records[0]["type"] != "run":
        raise TraceError("a trace begins with a run record")
    _check_rules(pair, records[0])
    steps = [record for record in records if record["type"] == "step"]
    if tolerance is None:
        tolerance = tolerance_of(records[0])
    try:
        replay = _Replay(pair, records[0], steps, ended=records[-1]["type"] == "end")
        for index, step in enumerate(steps):
            if wrong := _compare(step, replay.expect(index, step), tolerance):
                return Mismatch(index, *wrong)
        return _compare_end(records, steps)
    except (KeyError, TypeError, IndexError) as error:
        raise TraceError(f"the trace lacks or garbles a value: {error}") from error


def _check_rules(pair: Pair, run: Record) -> None:
    """Refuse a trace of two tokenizers that another map between them decided."""
    written = run.get("rules", 1)
    if written != RULES and not pair.projection().identity:
        raise TraceError(
            f"the trace was written by version {run.get('version')} under rules {written}, this "
            f"program follows rules {RULES}: it can be viewed, not verified"
        )


def _compare_end(records: Sequence[Record], steps: Sequence[Record]) -> Mismatch | None:
    ids = [step["id"] for step in steps]
    for end in (record for record in records if record["type"] == "end"):
        if end["token_ids"] != ids:
            return Mismatch(len(steps), "token_ids of the end record", end["token_ids"], ids)
    return None


def _compare(step: Record, expected: Record, tolerance: float) -> tuple[str, Any, Any] | None:
    for name, value in _flat(expected):
        recorded = dict(_flat(step)).get(name)
        if isinstance(value, float) and isinstance(recorded, int | float):
            if abs(value - recorded) <= tolerance:
                continue
        elif recorded == value:
            continue
        return name, recorded, value
    return None


def _flat(record: Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, list) and value:
            value = dict(enumerate(value))
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _method(run: Record) -> Method:
    recorded: Record = {
        "tau": run.get("tau"),
        "alpha": run.get("alpha"),
        "bonus": run.get("lambda"),
        "threshold": run.get("lambda"),
        "beta": run.get("beta"),
    }
    taken = option_names(run["method"])
    return make_method(run["method"], **{name: recorded[name] for name in taken})


class _Replay:
    """The run's settings, and what the base says at every position of the finished answer."""

    def __init__(self, pair: Pair, run: Record, steps: Sequence[Record], ended: bool) -> None:
        self.pair = pair
        self.kv_bits: int | None = run.get("kv_bits")
        self.near_tie = NEAR_TIE if self.kv_bits is None else QUANTIZED_TOLERANCE
        pair.limit_context(run.get("context"))
        self.method = _method(run)
        self.constraint: JsonConstraint | None = None
        if run.get("json_schema") is not None:
            self.constraint = JsonConstraint(pair.base.vocabulary, run["json_schema"])
        self.policy = "blend" if self.constraint else run["stop_policy"]
        self.greedy = run.get("temp", 0) == 0 and not run.get("repetition_penalty")
        self.vocabulary = pair.base.vocabulary
        self.answer = AnswerText(self.vocabulary)
        ids = [step["id"] for step in steps]
        # Bytes of a character that was never completed are shown with the last token that writes.
        writing = [n for n, token in enumerate(ids) if token != self.vocabulary.stop]
        self.last = writing[-1] if ended and writing else None
        self.views = self._read_base(run["base_prompt"]["ids"], ids)
        self.guide: Guide | None = None
        if self.method.asks:
            self.guide = self._make_guide(run["aligned_prompt"]["ids"], run.get("projection"))

    def _after_prompt(self, model: LanguageModel, prompt: Sequence[int]) -> Context:
        """A context that has read a prompt in the passes in which the run did.

        A quantized cache is rounded between passes, so that it matters which they were.
        """
        context = Context(model, kv_bits=self.kv_bits)
        context.prefill(prompt[:-1])
        return context

    def _make_guide(self, prompt: list[int], rule: ProjectionRule | None) -> Guide:
        rule = rule or "prefix"
        reference = None
        if self.method.needs_reference:
            twin = self._after_prompt(self.pair.require_reference(), prompt)
            reference = Reference(twin, self.pair.reference_projection(rule))
        context = self._after_prompt(self.pair.aligned, prompt)
        return Guide(context, self.pair.projection(rule), prompt, reference)

    def _read_base(self, prompt: list[int], ids: list[int]) -> Iterator[View]:
        context = self._after_prompt(self.pair.base, prompt)
        unread = [prompt[-1], *ids[:-1]]
        for start in range(0, len(unread), HEAD_ROWS):
            part = unread[start : start + HEAD_ROWS]
            logits = context.read(part, rows=len(part))
            for row in range(len(part)):
                probs = self.vocabulary.distribution(logits[row : row + 1])
                yield View(probs, *formulas.top(probs))

    def _permitted(self, probs: mx.array) -> mx.array:
        return self.constraint.permit(probs, self.answer.ids) if self.constraint else probs

    def _unsure(self, view: View, step: Record) -> bool:
        """Whether the gate was open; as recorded where rounding may have decided that."""
        tau = getattr(self.method, "tau", None)
        if tau and abs(_item(view.confidence) - tau) < self.near_tie:
            return step["alpha"] is not None
        takes_top = self.greedy and self.constraint is None
        return bool(_item(self.method.unsure(view, takes_top)))

    def expect(self, index: int, step: Record) -> Record:
        """What the record should say, given the token that it says was chosen."""
        view = next(self.views)
        token = step["id"]
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
        tau = getattr(self.method, "tau", None)
        expected |= {"index": index, "base": base, "text": self.answer.text[before:]}
        expected["gate_margin"] = None if tau is None else base["prob"] - tau
        return expected

    def _candidates(self, view: View, advice: Advice | None, step: Record) -> Record:
        """The likeliest tokens of each distribution that was at hand, as many as are recorded."""
        recorded, pair = step.get("candidates", {}), self.pair
        lists: Record = {"base": self._ranked(view.probs, recorded.get("base"), pair.base)}
        lists |= {"aligned": [], "blend": []}
        if advice is not None and advice.own_probs is not None:
            lists["aligned"] = self._ranked(advice.own_probs, recorded.get("aligned"), pair.aligned)
            if step["alpha"] is not None:
                probs = self._deciding(self.method.target(view, advice).probs, step)
                lists["blend"] = self._ranked(probs, recorded.get("blend"), pair.base)
        return lists

    def _ranked(self, probs: mx.array, recorded: Any, model: LanguageModel) -> list[Record]:
        """The likeliest tokens; of two that are as likely, the recorded one."""
        given = recorded or [{"id": -1}]
        ranked = []
        for one, other in zip(likeliest(probs, len(given)), given, strict=False):
            token = other["id"]
            known = 0 <= token < probs.shape[-1]
            alike = known and abs(_item(probs[0, token]) - one.prob) < self.near_tie
            ranked.append(candidate_record(token if alike else one.id, one.prob, model))
        return ranked

    def _deciding(self, probs: mx.array, step: Record) -> mx.array:
        """The distribution of a target, less what could not be taken."""
        banned = step["instead_of"]
        return self._permitted(probs if banned is None else formulas.without(probs, banned))

    def _decided(self, view: View, advice: Advice | None, step: Record) -> Record:
        if step["alpha"] is not None and advice is not None:
            return self._blended(view, advice, step)
        unsure = self._unsure(view, step)
        readable = self.guide is not None and self.guide.can_read(self.answer)
        forced = self.policy == "base" and _item(view.token) == self.vocabulary.stop
        nothing = ("aligned", "exact_mass", "prefix_mass", "instead_of")
        expected: Record = dict.fromkeys(nothing)
        # Where the gate is open the guide must have decided, unless it could not, or was not let.
        expected["alpha"] = "a weight" if unsure and readable and not forced else None
        over = None if advice is None else _item(advice.stop_prob)
        checks = readable and not unsure and self._checks_end(step, view)
        expected["stop_check"] = checks
        if checks and over is not None and self._ends(over, step) and self._line(step, view):
            ended = {"id": self.vocabulary.stop, "source": "aligned", "prob": over}
            return {**expected, **ended, "stop_prob": over, "gap": 2 * over - 1}
        stop = self.vocabulary.stop if forced else None
        chosen = self._choice(self._permitted(view.probs), step["id"], stop)
        if checks and over is not None:
            chosen["stop_prob"] = over
        return {**expected, **chosen, "source": "base"}

    def _checks_end(self, step: Record, view: View) -> bool:
        if step["id"] == self.vocabulary.stop and step["source"] == "base":
            return bool(self.policy == "guide" and step["stop_check"])
        return self.policy in ("either", "guide") and self._line(step, view)

    def _ends(self, over: float, step: Record) -> bool:
        """Whether the guide found the answer over; as recorded where rounding may decide that."""
        if abs(over - SURE_OF_STOP) < self.near_tie:
            return bool(step["source"] == "aligned")
        return over >= SURE_OF_STOP

    def _line(self, step: Record, view: View) -> bool:
        """Whether the base opened a line. What it drew is not recorded where the guide ended."""
        if self.greedy:
            return self.vocabulary.breaks_line(_item(view.token))
        return step["source"] == "aligned" or self.vocabulary.breaks_line(step["id"])

    def _blended(self, view: View, advice: Advice, step: Record) -> Record:
        target = self.method.target(view, advice)
        opened = self._unsure(view, step) or step["instead_of"] is not None
        token = _item(advice.token)
        return {
            **self._choice(self._deciding(target.probs, step), step["id"]),
            "source": "aligned" if self.method.name == "aligned" else "blend",
            "aligned": candidate_record(token, _item(advice.confidence), self.pair.aligned),
            "alpha": _item(target.alpha) if opened else None,
            "exact_mass": _item(advice.exact_mass),
            "prefix_mass": _item(advice.prefix_mass),
            "stop_check": False,
        }

    def _choice(self, probs: mx.array, token: int, forced: int | None = None) -> Record:
        """The facts about the recorded choice, and the choice that follows."""
        best = _item(probs.argmax())
        chosen = mx.array([token])
        prob, top = _item(probs[0, token]), _item(probs[0, best])
        follows = token if not self.greedy and prob > 0 else best
        if forced is not None:
            follows = forced
        elif top - prob < self.near_tie:
            follows = token
        return {
            "id": follows,
            "prob": prob,
            "gap": _item(formulas.gap(probs, chosen)),
            "stop_prob": _item(probs[0, self.vocabulary.stop]),
        }


def _item(value: mx.array) -> Any:
    return value.item()
