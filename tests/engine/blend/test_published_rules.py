"""The rules as their papers have them, worked out once more from logits in float64.

They share nothing with the engine, nor with the oracle of whole answers: a token is first proposed
by the base, and a rule says who writes in its place. All of it stands on tempered logits, as in the
experiments of Hammal et al.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend import formulas
from blendin_mlx.blend.dial import Dialled, base_temperature, guide_temperature
from blendin_mlx.blend.method import Advice, View
from blendin_mlx.blend.methods import make_method

SIZE = 11
Logits = Any  # [V] in float64
CLEAR = 1e-5  # float32 may decide otherwise what is closer

# A rule: tempered logits of base and guide, and its number → r, and how clear its decisions are.
Rule = Callable[[Logits, Logits, float], tuple[Any, float]]


def softmax(logits: Logits) -> Any:
    """Probabilities, by the logarithm of their sum."""
    return np.exp(logits - np.logaddexp.reduce(logits))


def rewritten(base: Any, guide: Any, deferred: Any) -> Any:
    """What is written if the base proposes, and the guide writes in place of deferred proposals."""
    written = np.zeros(SIZE)
    for proposal in range(SIZE):
        written += base[proposal] * (guide if deferred[proposal] else np.eye(SIZE)[proposal])
    return written


def nudging(base: Logits, guide: Logits, tau: float) -> tuple[Any, float]:
    p, q = softmax(base), softmax(guide)
    return (q if max(p) < tau else p), abs(max(p) - tau)


def token_wise(base: Logits, guide: Logits, lambda_: float) -> tuple[Any, float]:
    """KAD's dual rule: proposals that the base itself finds too improbable."""
    p = softmax(base)
    return rewritten(p, softmax(guide), p < lambda_), min(abs(p - lambda_))


def confidence_bet(base: Logits, guide: Logits, lambda_: float) -> tuple[Any, float]:
    """Proposals less likely than the guide's best, by more than a margin."""
    p, q = softmax(base), softmax(guide)
    return rewritten(p, q, max(q) - p > lambda_), min(abs(max(q) - p - lambda_))


def by_budget(base: Logits, guide: Logits, lambda_: float) -> tuple[Any, float]:
    """KAD's primal rule: the least likely proposals, while the sum of them is within the budget."""
    p, q = softmax(base), softmax(guide)
    deferred, spent, clear = np.zeros(SIZE, dtype=bool), 0.0, 1.0
    for token in sorted(range(SIZE), key=lambda token: p[token]):
        spent += p[token]
        clear = min(clear, abs(spent - lambda_))
        if spent > lambda_:
            break
        deferred[token] = True
    return rewritten(p, q, deferred), clear


def contrastive(base: Logits, guide: Logits, beta: float) -> tuple[Any, float]:
    """O'Brien and Lewis: an expert's logits less an amateur's, where the expert's are high."""
    lowest = max(base) + np.log(0.1)
    scores = np.where(base >= lowest, (1 + beta) * base - beta * guide, -np.inf)
    return softmax(scores), min(abs(base - lowest))


RULES: dict[str, tuple[Rule, str]] = {
    "nudging": (nudging, "tau"),
    "kad": (token_wise, "lambda_"),
    "kad-primal": (by_budget, "lambda_"),
    "confidence-bet": (confidence_bet, "lambda_"),
    "contrastive": (contrastive, "beta"),
}


def decided(name: str, option: str, value: float, temper: float, logits: Any) -> Any:
    """What the engine makes of the same logits, the base's choice where its gate is shut."""
    method = Dialled(make_method(name, **{option: value}), temper=temper)
    temperatures = base_temperature(method), guide_temperature(method)
    base, guide = (
        formulas.probabilities(formulas.tempered(mx.array(one), temperature), SIZE)
        for one, temperature in zip(logits, temperatures, strict=True)
    )
    view, top = View(base, *formulas.top(base)), formulas.top(guide)
    whole = mx.ones(top.prob.shape)
    advice = Advice(guide, top.prob, top.token, top.token, whole, 0 * whole, guide[..., 0])
    return mx.where(method.unsure(view, False)[..., None], method.target(view, advice).probs, base)


@pytest.mark.parametrize("name", RULES)
@given(
    seed=st.integers(0, 2**31),
    value=st.floats(0.01, 0.99),
    temper=st.sampled_from([0.3, 0.7, 1.0, 1.5, 4.0]),
    scale=st.floats(0.2, 4.0),
)
def test_a_rule_is_what_its_paper_says(
    name: str, seed: int, value: float, temper: float, scale: float
) -> None:
    rule, option = RULES[name]
    logits = np.random.default_rng(seed).normal(scale=scale, size=(2, SIZE)).astype(np.float32)
    base, guide = logits.astype(np.float64) / temper
    expected, clear = rule(base, guide, value)
    assume(clear > CLEAR)
    assert expected.sum() == pytest.approx(1)
    found = decided(name, option, value, temper, logits[:, None])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_a_temperature_after_the_rule_is_another_rule(name: str) -> None:
    rule, option = RULES[name]
    base, guide = logits = np.random.default_rng(7).normal(scale=2, size=(2, SIZE))
    before, _ = rule(base / 2.0, guide / 2.0, 0.4)
    after = rule(base, guide, 0.4)[0] ** 0.5
    assert abs(before - after / after.sum()).max() > 1e-2
    found = decided(name, option, 0.4, 2.0, logits.astype(np.float32)[:, None])
    np.testing.assert_allclose(found[0], before, atol=1e-5)
