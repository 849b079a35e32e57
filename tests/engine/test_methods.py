"""The identities of the method, and its options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx import blending
from blendin_mlx.backend import mx
from blendin_mlx.methods import METHODS, Advice, Method, Target, View, make_method

SIZE = 12
GATED = ("blendin", "fixed", "nudging")
SEEDS = st.integers(0, 2**31)


def distributions(seed: int, rows: int = 3) -> tuple[mx.array, mx.array]:
    """Two random distributions per row, some sharp, some flat."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.1, 6, size=(2, rows, 1))
    logits = (scale * rng.normal(size=(2, rows, SIZE))).astype(np.float32)
    base, aligned = (blending.probabilities(mx.array(x), SIZE) for x in logits)
    return base, aligned


def view(probs: mx.array) -> View:
    return View(probs, *blending.top(probs))


def advice(probs: mx.array) -> Advice:
    """A guide with the base's own vocabulary."""
    confidence, token = blending.top(probs)
    exact = mx.ones(confidence.shape)
    return Advice(probs, confidence, token, token, exact, 0 * exact, probs[..., 0])


def target(method: Method, base: mx.array, aligned: mx.array) -> Target:
    return method.target(view(base), advice(aligned))


@given(st.sampled_from(GATED), st.floats(0, 1, allow_subnormal=False))
def test_tau_0_is_never_unsure(name: str, confidence: float) -> None:
    method = make_method(name, tau=0)
    assert not method.asks
    assert not method.unsure(mx.array(confidence)).item()


@given(st.sampled_from(GATED), st.floats(0.001, 1), st.floats(0, 1, allow_subnormal=False))
def test_the_gate_opens_below_tau_and_nowhere_else(
    name: str, tau: float, confidence: float
) -> None:
    method = make_method(name, tau=tau)
    assert method.asks
    assert method.unsure(mx.array([confidence])).tolist() == [np.float32(confidence) < tau]


def test_base_never_asks_and_aligned_always_does() -> None:
    confidence = mx.array([0.0, 0.4, 1.0])
    assert not make_method("base").asks
    assert make_method("base").unsure(confidence).tolist() == [False] * 3
    assert make_method("aligned").asks
    assert make_method("aligned").unsure(confidence).tolist() == [True] * 3


@given(SEEDS)
def test_alpha_0_gives_the_base(seed: int) -> None:
    base, aligned = distributions(seed)
    decided = target(make_method("fixed", alpha=0), base, aligned)
    assert decided.probs.tolist() == base.tolist()


@given(SEEDS)
def test_alpha_1_gives_nudging(seed: int) -> None:
    base, aligned = distributions(seed)
    fixed = target(make_method("fixed", alpha=1), base, aligned)
    assert fixed.probs.tolist() == target(make_method("nudging"), base, aligned).probs.tolist()
    assert fixed.alpha.tolist() == [1.0] * len(base)


@given(st.sampled_from(sorted(METHODS)), SEEDS)
def test_a_guide_that_is_the_base_gives_the_base(name: str, seed: int) -> None:
    base, _ = distributions(seed)
    np.testing.assert_allclose(target(make_method(name), base, base).probs, base, atol=1e-6)


@given(st.sampled_from(sorted(METHODS)), SEEDS)
def test_every_target_is_a_distribution(name: str, seed: int) -> None:
    probs, alpha = target(make_method(name), *distributions(seed))
    np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-5)
    assert probs.min().item() >= 0
    assert alpha.shape == probs.shape[:-1]


@given(SEEDS, st.floats(0, 2, allow_subnormal=False))
def test_blendin_is_the_formula_of_the_paper(seed: int, bonus: float) -> None:
    base, aligned = distributions(seed)
    decided = target(make_method("blendin", bonus=bonus), base, aligned)
    for row, (p, q) in enumerate(zip(np.array(base), np.array(aligned), strict=True)):
        ratio = q.max() / (p.max() + q.max())
        alpha = min(1.0, ratio + bonus * p[q.argmax()])
        assert decided.alpha[row].item() == pytest.approx(alpha, abs=1e-5)
        np.testing.assert_allclose(decided.probs[row], alpha * q + (1 - alpha) * p, atol=1e-5)


def test_a_top_token_without_counterpart_gives_no_bonus() -> None:
    base, aligned = distributions(1, rows=1)
    nowhere = advice(aligned)._replace(counterpart=mx.array([SIZE]))
    with_bonus = make_method("blendin", bonus=1).target(view(base), nowhere)
    without = make_method("blendin", bonus=0).target(view(base), nowhere)
    assert with_bonus.alpha.item() == without.alpha.item()


@given(st.sampled_from(sorted(METHODS)), SEEDS)
def test_rows_do_not_influence_each_other(name: str, seed: int) -> None:
    base, aligned = distributions(seed)
    together = target(make_method(name), base, aligned)
    for row in range(len(base)):
        alone = target(make_method(name), base[row], aligned[row])
        np.testing.assert_allclose(together.probs[row], alone.probs, atol=1e-7)


@given(st.sampled_from(sorted(METHODS)), SEEDS, SEEDS)
def test_no_method_depends_on_the_random_state(name: str, seed: int, state: int) -> None:
    base, aligned = distributions(seed)
    mx.random.seed(state)
    first = target(make_method(name), base, aligned).probs.tolist()
    mx.random.seed(state + 1)
    assert target(make_method(name), base, aligned).probs.tolist() == first


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "option"),
    [("blendin", "tau"), ("fixed", "tau"), ("nudging", "tau"), ("fixed", "alpha")],
)
def test_a_share_out_of_range_is_refused_by_name_value_and_range(
    name: str, option: str, value: float
) -> None:
    with pytest.raises(ValueError, match=f"{option} must be between 0 and 1, not {value:g}$"):
        make_method(name, **{option: value})


@pytest.mark.parametrize("value", [-0.1, math.nan, -math.inf])
def test_a_negative_bonus_is_refused_by_its_name_in_the_paper(value: float) -> None:
    with pytest.raises(ValueError, match=f"lambda must be between 0 and inf, not {value:g}$"):
        make_method("blendin", bonus=value)


@pytest.mark.parametrize(("name", "tau"), [(name, tau) for name in GATED for tau in (0, 0.4, 1)])
def test_the_ends_of_the_range_belong_to_it(name: str, tau: float) -> None:
    method: Any = make_method(name, tau=tau)
    assert method.tau == tau


def test_an_option_that_a_method_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nudging has tau; it does not take alpha, bonus"):
        make_method("nudging", bonus=0.1, alpha=0.5)
    with pytest.raises(ValueError, match=r"base has no options; it does not take tau"):
        make_method("base", tau=0.4)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of base, aligned, blendin.*not 'blend'"):
        make_method("blend")


def test_the_defaults_are_those_of_the_paper() -> None:
    method: Any = make_method("blendin")
    assert (method.tau, method.bonus) == (0.4, 0.1)
