"""The formulas, on numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend import formulas

BASE = [0.5, 0.3, 0.2]
ALIGNED = [0.1, 0.2, 0.7]
LOGITS = st.lists(st.floats(-30, 30, allow_subnormal=False), min_size=2, max_size=40)
SHARES = st.floats(0, 1, allow_subnormal=False)


def test_the_blend_of_two_distributions_worked_by_hand() -> None:
    blended = formulas.blend(mx.array(BASE), mx.array(ALIGNED), mx.array(0.25))
    # 0.25 · 0.1 + 0.75 · 0.5 = 0.4; 0.05 + 0.225 = 0.275; 0.175 + 0.15 = 0.325
    assert blended.tolist() == pytest.approx([0.4, 0.275, 0.325])


@pytest.mark.parametrize(
    ("base", "aligned", "agreement", "bonus", "expected"),
    [
        (0.3, 0.6, 0.1, 0.1, 0.6 / 0.9 + 0.01),
        (0.5, 0.5, 0.0, 0.1, 0.5),
        (0.2, 0.8, 0.2, 0.0, 0.8),
        (0.1, 0.9, 0.1, 5.0, 1.0),  # 0.9 + 0.5, clipped
        (0.39, 0.01, 0.0, 0.1, 0.025),
    ],
)
def test_alpha_worked_by_hand(
    base: float, aligned: float, agreement: float, bonus: float, expected: float
) -> None:
    weight = formulas.blend_weight(*map(mx.array, (base, aligned, agreement)), bonus)  # type: ignore[call-arg]
    assert weight.item() == pytest.approx(expected, abs=1e-6)


@given(st.floats(1e-6, 1), SHARES, SHARES, st.floats(0, 1e6, allow_subnormal=False))
def test_alpha_stays_between_0_and_1(
    base: float, aligned: float, agreement: float, bonus: float
) -> None:
    weight = formulas.blend_weight(*map(mx.array, (base, aligned, agreement)), bonus).item()  # type: ignore[call-arg]
    assert 0 <= weight <= 1


@given(LOGITS)
def test_probabilities_are_the_full_softmax(logits: list[float]) -> None:
    exact = np.exp(np.array(logits) - max(logits))
    probs = formulas.probabilities(mx.array(logits), len(logits))
    np.testing.assert_allclose(probs, exact / exact.sum(), rtol=2e-5, atol=1e-12)
    assert np.array(probs).sum() == pytest.approx(1, abs=1e-5)


def test_probabilities_of_a_large_vocabulary_are_exact_to_float32() -> None:
    logits = np.random.default_rng(0).normal(size=262_144).astype(np.float32)
    exact = np.exp(logits.astype(np.float64))
    probs = formulas.probabilities(mx.array(logits), logits.size)
    np.testing.assert_allclose(probs, exact / exact.sum(), rtol=2e-5)


@given(LOGITS, st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), max_size=5))
def test_padding_logits_never_take_mass(logits: list[float], padding: list[float]) -> None:
    padded = formulas.probabilities(mx.array([*logits, *padding]), len(logits))
    assert padded.tolist() == formulas.probabilities(mx.array(logits), len(logits)).tolist()


@given(st.lists(st.floats(-87, 0, width=32), min_size=1, max_size=20))
def test_the_exponential_is_exact_to_float32(values: list[float]) -> None:
    exact = np.exp(np.array(values, dtype=np.float32).astype(np.float64))
    np.testing.assert_allclose(formulas.exponential(mx.array(values)), exact, rtol=2e-6)


def test_the_exponential_of_what_is_impossible_is_nothing_and_of_nan_is_nan() -> None:
    impossible, unknown = formulas.exponential(mx.array([-np.inf, np.nan])).tolist()
    assert 0 <= impossible < 1e-37
    assert np.isnan(unknown)


def test_half_precision_logits_are_widened_before_the_softmax() -> None:
    probs = formulas.probabilities(mx.zeros(5000, dtype=mx.float16), 5000)
    assert probs.dtype == mx.float32
    assert np.array(probs).sum() == pytest.approx(1, abs=1e-5)


@given(st.integers(1, 4), st.integers(2, 30), st.integers(0, 2**31))
def test_many_positions_at_once_agree_with_each_alone(n: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, other = (mx.array(rng.normal(size=(n, size)).astype(np.float32)) for _ in range(2))
    bonus = 0.1

    def everything(one: mx.array, two: mx.array) -> list[mx.array]:
        base, aligned = (formulas.probabilities(x, size) for x in (one, two))
        p, q = formulas.top(base), formulas.top(aligned)
        agreement = mx.take_along_axis(base, q.token[..., None], axis=-1)[..., 0]
        alpha = formulas.blend_weight(p.prob, q.prob, agreement, bonus)
        mixed = formulas.blend(base, aligned, alpha)
        winner = formulas.top(mixed)
        return [base, *p, alpha, mixed, *winner, formulas.gap(mixed, winner.token)]

    together = everything(logits, other)
    for row in range(n):
        for whole, alone in zip(together, everything(logits[row], other[row]), strict=True):
            np.testing.assert_allclose(whole[row], alone, rtol=1e-6, atol=1e-9)


def test_top_is_the_most_probable_token_and_its_probability() -> None:
    prob, token = formulas.top(mx.array([BASE, ALIGNED]))
    assert token.tolist() == [0, 2]
    assert prob.tolist() == pytest.approx([0.5, 0.7])


def test_gap_is_the_lead_over_the_best_other_token() -> None:
    probs = mx.array([BASE, BASE, [0.4, 0.4, 0.2]])
    gaps = formulas.gap(probs, mx.array([0, 2, 1])).tolist()
    assert gaps == pytest.approx([0.2, -0.3, 0.0])


@given(LOGITS, LOGITS, SHARES)
def test_a_blend_of_distributions_sums_to_1(
    one: list[float], other: list[float], weight: float
) -> None:
    size = min(len(one), len(other))
    base, aligned = (formulas.probabilities(mx.array(x), size) for x in (one, other))
    blended = formulas.blend(base, aligned, mx.array(weight))
    assert blended.sum().item() == pytest.approx(1, abs=1e-5)
    assert blended.min().item() >= 0
