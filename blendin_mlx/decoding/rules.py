"""The rules that decide a step, as pure functions.

The decoder and the verification of traces both apply them. Functions of arrays take any number of
positions at once, probabilities as ``[..., V]`` and the rest as ``[...]``; functions of plain
numbers take one position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from ..backend.mlx import mx
from ..blend import formulas
from ..blend.method import Method
from ..blend.sampling import Chooser
from ..errors import NumericalError
from ..model import LanguageModel
from ..step import Source

# When an answer ends, besides stop strings and limits:
# blend   STOP wins the blend, or the base is sure of STOP
# base    also as soon as the base's own top choice is STOP
# either  as blend; also where a sure base opens a new line and the guide finds the answer over
# guide   as either; an end that the base wants is taken back while the guide would go on
StopPolicy = Literal["blend", "base", "either", "guide"]
SURE_OF_STOP = 0.5
# Under the policy `guide`, how many ends of one answer may be taken back.
MAX_TAKEBACKS = 8
# Relative tolerance when a top probability is compared with that of a uniform distribution.
_LEVEL = 1e-5

# What the guide is asked at a position:
# nothing  the base's choice stands
# next     the gate is open: what comes next?
# end      the base ends the answer: is it over?
# line     the base opens a new line: is the answer over?
# undone   an end was taken back here: is the answer over, and if not, what comes next?
Question = Literal["nothing", "next", "end", "line", "undone"]
# What is taken: the base's choice, the guide's STOP, or the choice of the method's target.
Verdict = Literal["base", "stop", "blend"]

# For each question, the verdict if the guide finds the answer over, and if it does not.
_VERDICTS: dict[Question, tuple[Verdict, Verdict]] = {
    "nothing": ("base", "base"),
    "next": ("blend", "blend"),
    "end": ("base", "blend"),
    "line": ("stop", "base"),
    "undone": ("stop", "blend"),
}


class Choice(NamedTuple):
    """A token taken from a distribution, with its probability, its lead, and P(STOP) there."""

    id: int
    prob: float
    gap: float
    stop_prob: float


def read_choice(facts: Sequence[float]) -> Choice:
    """Return a choice whose :func:`choice_facts` were read back."""
    token, *rest = facts
    return Choice(int(token), *rest)


def choice_facts(probs: mx.array, chosen: mx.array, stop: int) -> list[mx.array]:
    """Return the fields of a :class:`Choice` as arrays ``[...]``, lazily.

    Args:
        probs: the distribution that decides, ``[..., V]``.
        chosen: the ids taken from it, ``[...]``.
        stop: the id of STOP.
    """
    prob = mx.take_along_axis(probs, chosen[..., None], axis=-1)[..., 0]
    return [chosen, prob, formulas.gap(probs, chosen), probs[..., stop]]


def policy_in_force(policy: StopPolicy, constrained: bool) -> StopPolicy:
    """Return the stop policy of an answer; one held to a schema ends by STOP alone.

    Raises:
        ValueError: an unknown policy.
    """
    if policy not in get_args(StopPolicy):
        known = ", ".join(get_args(StopPolicy))
        raise ValueError(f"stop policy must be one of {known}, not {policy!r}")
    return "blend" if constrained else policy


def permitted(
    probs: mx.array, banned: int | None = None, allowed: mx.array | None = None
) -> mx.array:
    """Return ``[..., V]`` without mass on tokens that may not be taken.

    Args:
        probs: the distribution that decides, ``[..., V]``.
        banned: the token that began an end taken back.
        allowed: booleans ``[..., V]``, the tokens that a constraint allows.
    """
    if banned is not None:
        probs = formulas.without(probs, banned)
    return probs if allowed is None else formulas.restricted(probs, allowed)


def needs_base(method: Method, policy: StopPolicy, chooser: Chooser) -> bool:
    """Return whether the base is run where the guide can be asked.

    Even where the guide writes alone, a forced end is the base's, and so is the scale of logits
    that are penalized.
    """
    return method.needs_base or policy == "base" or chooser.needs_level


def is_forced_end(policy: StopPolicy, top: int, stop: int) -> bool:
    """Return whether the base's top token ``top`` ends the answer, whatever is drawn."""
    return policy == "base" and top == stop


def with_forced_ends(policy: StopPolicy, chosen: mx.array, top: mx.array, stop: int) -> mx.array:
    """Return the base's choices ``[...]`` with STOP where :func:`is_forced_end`, lazily."""
    return mx.where(top == stop, top, chosen) if policy == "base" else chosen


def source(method: Method) -> Source:
    """Return whose choice it is where the method's target decides."""
    return "aligned" if method.name == "aligned" else "blend"


def may_take_back(policy: StopPolicy, takebacks: int) -> bool:
    """Return whether one more end may be taken back after ``takebacks`` of them."""
    return policy == "guide" and takebacks < MAX_TAKEBACKS


def is_over(stop_prob: float) -> bool:
    """Return whether the guide finds the answer over, from its P_g(STOP)."""
    return stop_prob >= SURE_OF_STOP


def question(
    policy: StopPolicy,
    *,
    forced: bool,
    ends: bool,
    opens_line: bool,
    unsure: bool,
    takes_back: bool,
    undone: bool,
) -> Question:
    """Return what to ask the guide at a position, if it can be asked.

    Args:
        policy: the one in force.
        forced: whether the base's end is forced, see :func:`is_forced_end`.
        ends: whether the base's choice is STOP.
        opens_line: whether the base's choice breaks the line.
        unsure: whether the method's gate is open.
        takes_back: whether an end may be taken back here, see :func:`may_take_back`.
        undone: whether an end that began here was taken back.
    """
    if forced:
        return "nothing"
    if undone:
        return "undone"
    if unsure:
        return "next"
    if ends:
        return "end" if takes_back else "nothing"
    return "line" if opens_line and policy in ("either", "guide") else "nothing"


def verdict(asked: Question, over: bool) -> Verdict:
    """Return what is taken after a question, given whether the guide finds the answer over."""
    return _VERDICTS[asked][0 if over else 1]


def check_sound(confidence: float, model: LanguageModel, index: int) -> None:
    """Refuse a distribution that is not finite, or uniform, as damaged weights give it.

    Args:
        confidence: probability of its top token.
        model: where it comes from.
        index: the position in the answer, for the message.

    Raises:
        NumericalError: names the model and the position.
    """
    vocabulary = model.vocabulary
    check_finite(confidence, model, index)
    # STOP leads, if there are several of them.
    if math.isclose(confidence, len(vocabulary.stop_ids) / vocabulary.size, rel_tol=_LEVEL):
        raise _damaged(model, "the same logit for every token", index)


def check_finite(value: float, model: LanguageModel, index: int) -> None:
    """Refuse a number that damaged weights give; the arguments are those of :func:`check_sound`.

    Raises:
        NumericalError: it is not finite.
    """
    if not math.isfinite(value):
        raise _damaged(model, "logits that are not finite", index)


def _damaged(model: LanguageModel, wrong: str, index: int) -> NumericalError:
    return NumericalError(
        f"{model.name} produced {wrong} at token {index} of the answer; its weights may be damaged"
    )
