"""The identities of the method, and its options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend import formulas
from blendin_mlx.blend.method import Advice, Method, Target, View
from blendin_mlx.blend.methods import METHODS, make_method

SIZE = 12
GATED = ("blendin", "fixed", "nudging")
DEFERRING = ("kad", "kad-primal", "confidence-bet")
SEEDS = st.integers(0, 2**31)


def distributions(seed: int, rows: int = 3) -> tuple[mx.array, mx.array]:
    """Two random distributions per row, some sharp, some flat."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.1, 6, size=(2, rows, 1))
    logits = (scale * rng.normal(size=(2, rows, SIZE))).astype(np.float32)
    base, aligned = (formulas.probabilities(mx.array(x), SIZE) for x in logits)
    return base, aligned


def view(probs: mx.array) -> View:
    return View(probs, *formulas.top(probs))


def advice(probs: mx.array) -> Advice:
    """A guide with the base's own vocabulary."""
    confidence, token = formulas.top(probs)
    exact = mx.ones(confidence.shape)
    twin = mx.roll(probs, 1, axis=-1)  # type: ignore[call-arg]
    return Advice(probs, confidence, token, token, exact, 0 * exact, probs[..., 0], twin)


def target(method: Method, base: mx.array, aligned: mx.array) -> Target:
    return method.target(view(base), advice(aligned))


def sure(confidence: Any) -> View:
    """A view of which only the confidence matters."""
    return View(mx.array(0.0), mx.array(confidence), mx.array(0))


@given(st.sampled_from(GATED), st.floats(0, 1, allow_subnormal=False))
def test_tau_0_is_never_unsure(name: str, confidence: float) -> None:
    method = make_method(name, tau=0)
    assert not method.asks
    assert not method.unsure(sure(confidence), greedy=True).item()


@given(st.sampled_from(GATED), st.floats(0.001, 1), st.floats(0, 1, allow_subnormal=False))
def test_the_gate_opens_below_tau_and_nowhere_else(
    name: str, tau: float, confidence: float
) -> None:
    method = make_method(name, tau=tau)
    assert method.asks
    for greedy in (True, False):
        opened = method.unsure(sure([confidence]), greedy)
        assert opened.tolist() == [np.float32(confidence) < tau]


@pytest.mark.parametrize("greedy", [True, False])
def test_base_never_asks_and_methods_without_a_gate_always_do(greedy: bool) -> None:
    every = sure([0.0, 0.4, 1.0])
    assert not make_method("base").asks
    assert make_method("base").unsure(every, greedy).tolist() == [False] * 3
    for name in ("aligned", "ensemble", "confidence-bet", "proxy-tuning"):
        assert make_method(name).asks
        assert make_method(name).unsure(every, greedy).tolist() == [True] * 3


MATTERING = st.sampled_from(("kad", "kad-primal", "contrastive"))  # which ask where it matters


@given(MATTERING, SEEDS, SEEDS, st.floats(0, 1, allow_subnormal=False))
def test_a_gate_that_is_shut_never_changes_the_winner(
    name: str, seed: int, other: int, limit: float
) -> None:
    method, (base, _) = make_method(name, lambda_=limit), distributions(seed, rows=40)
    aligned = distributions(other, rows=40)[1]
    opened = method.unsure(view(base), greedy=True)
    forced = target(method, base, aligned).probs
    lead = formulas.gap(forced, base.argmax(axis=-1))
    assert mx.all(opened | (lead > -1e-6)).item()


@given(st.sampled_from(("kad", "kad-primal")), SEEDS, st.floats(0.01, 1))
def test_where_the_gate_of_kad_is_open_some_guide_changes_the_winner(
    name: str, seed: int, limit: float
) -> None:
    method, (base, _) = make_method(name, lambda_=limit), distributions(seed, rows=6)
    opened = method.unsure(view(base), greedy=True).tolist()
    for row, is_open in zip(base, opened, strict=True):
        every = mx.broadcast_to(row, (SIZE, SIZE))
        winners = target(method, every, mx.eye(SIZE)).probs.argmax(axis=-1).tolist()
        changed = set(winners) != {row.argmax().item()}
        forced = np.sort(np.array(target(method, every, mx.eye(SIZE)).probs), axis=-1)
        is_tied = (forced[:, -1] - forced[:, -2] < 1e-5).any()
        assert is_open == changed or is_tied


def test_two_tokens_above_the_limit_can_change_places() -> None:
    base = mx.array([0.45, 0.42, 0.13])
    method = make_method("kad", lambda_=0.4)
    assert method.unsure(view(base), greedy=True).item()
    # 0.42 + 0.13 · 1 = 0.55 beats 0.45
    decided = target(method, base, mx.array([0.0, 1.0, 0.0]))
    assert decided.probs.tolist() == pytest.approx([0.45, 0.55, 0.0])
    assert decided.alpha.item() == pytest.approx(0.13)


@given(SEEDS)
def test_where_the_gate_of_contrastive_is_open_some_amateur_changes_the_winner(seed: int) -> None:
    method, (base, _) = make_method("contrastive"), distributions(seed, rows=40)
    second = mx.argsort(base, axis=-1)[..., -2]
    # An amateur that finds the second token far less likely than the others.
    amateur = mx.put_along_axis(mx.ones(base.shape), second[..., None], mx.array(1e-30), axis=-1)
    winner = target(method, base, amateur / amateur.sum(axis=-1, keepdims=True)).probs
    changed = winner.argmax(axis=-1) == second
    assert method.unsure(view(base), greedy=True).tolist() == changed.tolist()


def test_kad_always_asks_when_sampling_and_not_where_a_sure_base_decides() -> None:
    certain = view(mx.array([[0.7, 0.2, 0.1], [0.39, 0.31, 0.3]]))
    method = make_method("kad")
    assert method.unsure(certain, greedy=True).tolist() == [False, True]
    assert method.unsure(certain, greedy=False).tolist() == [True, True]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kad", {"lambda_": 0}),
        ("kad-primal", {"lambda_": 0}),
        ("confidence-bet", {"lambda_": 1}),
        ("proxy-tuning", {"beta": 0}),
        ("contrastive", {"beta": 0, "lambda_": 0}),
    ],
)
@given(seed=SEEDS)
def test_the_neutral_end_of_an_option_gives_the_base_and_never_asks(
    name: str, options: dict[str, float], seed: int
) -> None:
    base, aligned = distributions(seed)
    method = make_method(name, **options)
    assert not method.asks
    probs, alpha = target(method, base, aligned)
    np.testing.assert_allclose(probs, base, atol=1e-5)
    np.testing.assert_allclose(alpha, 0, atol=1e-5)


@given(SEEDS, st.floats(0, 4, allow_subnormal=False))
def test_a_guide_that_alignment_did_not_change_gives_the_base(seed: int, beta: float) -> None:
    base, aligned = distributions(seed)
    same = advice(aligned)._replace(reference_probs=aligned)
    decided = make_method("proxy-tuning", beta=beta).target(view(base), same)
    np.testing.assert_allclose(decided.probs, base, atol=1e-5)


@given(SEEDS, st.floats(0, 2, allow_subnormal=False))
def test_proxy_tuning_is_the_softmax_of_shifted_logits(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    own, guide, twin = rng.normal(scale=2, size=(3, SIZE)).astype(np.float32)
    exact = np.exp(own + beta * (guide - twin) - (own + beta * (guide - twin)).max())
    probs = [formulas.probabilities(mx.array(x), SIZE) for x in (own, guide, twin)]
    asked = advice(probs[1])._replace(reference_probs=probs[2])
    decided = make_method("proxy-tuning", beta=beta).target(view(probs[0]), asked)
    np.testing.assert_allclose(decided.probs, exact / exact.sum(), atol=1e-5)


def test_a_token_that_neither_of_the_guides_models_has_is_not_shifted() -> None:
    base, guide, twin = (mx.array(x) for x in ([0.5, 0.3, 0.2], [0.8, 0.2, 0], [0.4, 0.6, 0]))
    # 0.5 · 0.8 / 0.4 = 1; 0.3 · 0.2 / 0.6 = 0.1; 0.2 stays; 1.3 in all
    shifted = formulas.shift(base, guide, twin, 1.0)
    assert shifted.tolist() == pytest.approx([1 / 1.3, 0.1 / 1.3, 0.2 / 1.3], abs=1e-5)


@pytest.mark.parametrize("name", ["kad", "confidence-bet"])
@given(seed=SEEDS)
def test_deferral_is_the_formula_of_the_paper(name: str, seed: int) -> None:
    base, aligned = distributions(seed)
    decided = target(make_method(name, lambda_=0.15), base, aligned)
    for row, (p, q) in enumerate(zip(np.array(base), np.array(aligned), strict=True)):
        limit = np.float32(0.15) if name == "kad" else q.max() - np.float32(0.15)
        mu = p < limit
        expected = p * (1 - mu) + q * (p * mu).sum()
        np.testing.assert_allclose(decided.probs[row], expected, atol=1e-5)
        assert decided.alpha[row].item() == pytest.approx((p * mu).sum(), abs=1e-5)


@given(SEEDS)
def test_the_ensemble_is_the_mean(seed: int) -> None:
    base, aligned = distributions(seed)
    decided = target(make_method("ensemble"), base, aligned)
    np.testing.assert_allclose(decided.probs, (np.array(base) + np.array(aligned)) / 2, atol=1e-6)


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


@given(SEEDS)
def test_a_budget_of_all_mass_gives_nudging(seed: int) -> None:
    base, aligned = distributions(seed)
    decided = target(make_method("kad-primal", lambda_=1), base, aligned)
    np.testing.assert_allclose(decided.probs, aligned, atol=1e-6)
    np.testing.assert_allclose(decided.alpha, 1, atol=1e-6)


@given(SEEDS, st.floats(0.01, 0.99))
def test_the_deferred_mass_keeps_to_the_budget_and_no_token_more_fits(
    seed: int, budget: float
) -> None:
    base, aligned = distributions(seed)
    limit = np.array(formulas.budget_limit(base, budget))
    mass = np.array(target(make_method("kad-primal", lambda_=budget), base, aligned).alpha)
    assert (mass <= budget + 1e-6).all()
    assert (mass + limit > budget - 1e-6).all()
    assert [one in row for one, row in zip(limit, np.array(base), strict=True)] == [True] * 3


def test_tokens_that_are_equally_likely_are_deferred_together_or_not_at_all() -> None:
    # 0.1 fits 0.3, and one of the two tokens of 0.2 would too
    base = mx.array([0.5, 0.2, 0.2, 0.1])
    decided = target(make_method("kad-primal", lambda_=0.3), base, mx.array([0.0, 0.0, 1.0, 0.0]))
    assert decided.probs.tolist() == pytest.approx([0.5, 0.2, 0.3, 0.0])
    assert decided.alpha.item() == pytest.approx(0.1)


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
@given(seed=SEEDS, share=st.floats(0, 1, allow_subnormal=False))
def test_an_amateur_that_is_the_expert_leaves_its_plausible_tokens(
    beta: float, seed: int, share: float
) -> None:
    base, aligned = distributions(seed)
    # without any contrast, β = 0, every amateur leaves them
    amateur = base if beta else aligned
    decided = target(make_method("contrastive", beta=beta, lambda_=share), base, amateur)
    kept = np.where(base >= share * np.array(base).max(axis=-1, keepdims=True), base, 0)
    np.testing.assert_allclose(decided.probs, kept / kept.sum(axis=-1, keepdims=True), atol=1e-5)


def test_a_token_that_the_amateur_cannot_write_has_no_lead() -> None:
    base, amateur = mx.array([0.5, 0.4, 0.1]), mx.array([0.5, 0.0, 0.5])
    # 0.5 · 0.5/0.5 = 0.5, 0.4 as it is, 0.1 · 0.1/0.5 = 0.02; 0.92 in all
    decided = target(make_method("contrastive", beta=1, lambda_=0), base, amateur)
    assert decided.probs.tolist() == pytest.approx([0.5 / 0.92, 0.4 / 0.92, 0.02 / 0.92])


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_implausible_tokens_keep_their_order_where_all_others_are_barred(share: float) -> None:
    base, amateur = mx.array([0.9, 0.004, 0.056, 0.04]), mx.array([0.25] * 4)
    decided = target(make_method("contrastive", lambda_=share), base, amateur).probs
    assert decided.tolist() == pytest.approx([1.0, 0, 0, 0], abs=1e-9)
    rest = formulas.restricted(decided, mx.array([False, True, True, True]))
    assert rest.tolist() == pytest.approx([0.0, 0.04, 0.56, 0.4], abs=1e-5)


MIXTURES = sorted(set(METHODS) - {*DEFERRING, "proxy-tuning", "contrastive"})


@pytest.mark.parametrize("name", DEFERRING)
@given(seed=SEEDS)
def test_deferring_to_the_base_itself_keeps_its_top_token(name: str, seed: int) -> None:
    base, _ = distributions(seed)
    decided = target(make_method(name), base, base)
    assert (formulas.gap(decided.probs, base.argmax(axis=-1)) > -1e-6).all().item()


@given(st.sampled_from(MIXTURES), SEEDS)
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
    decided = target(make_method("blendin", lambda_=bonus), base, aligned)
    for row, (p, q) in enumerate(zip(np.array(base), np.array(aligned), strict=True)):
        ratio = q.max() / (p.max() + q.max())
        alpha = min(1.0, ratio + bonus * p[q.argmax()])
        assert decided.alpha[row].item() == pytest.approx(alpha, abs=1e-5)
        np.testing.assert_allclose(decided.probs[row], alpha * q + (1 - alpha) * p, atol=1e-5)


def test_a_top_token_without_counterpart_gives_no_bonus() -> None:
    base, aligned = distributions(1, rows=1)
    nowhere = advice(aligned)._replace(counterpart=mx.array([SIZE]))
    with_bonus = make_method("blendin", lambda_=1).target(view(base), nowhere)
    without = make_method("blendin", lambda_=0).target(view(base), nowhere)
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
    [
        *(("blendin", "tau"), ("fixed", "tau"), ("nudging", "tau"), ("fixed", "alpha")),
        *((name, "lambda_") for name in (*DEFERRING, "contrastive")),
    ],
)
def test_a_share_out_of_range_is_refused_by_name_value_and_range(
    name: str, option: str, value: float
) -> None:
    letter = option.rstrip("_")
    with pytest.raises(ValueError, match=f"{letter} must be between 0 and 1, not {value:g}$"):
        make_method(name, **{option: value})


@pytest.mark.parametrize("value", [-0.1, math.nan, -math.inf])
def test_a_negative_bonus_is_refused_by_its_name_in_the_paper(value: float) -> None:
    with pytest.raises(ValueError, match=f"lambda must be between 0 and inf, not {value:g}$"):
        make_method("blendin", lambda_=value)


@pytest.mark.parametrize(("name", "tau"), [(name, tau) for name in GATED for tau in (0, 0.4, 1)])
def test_the_ends_of_the_range_belong_to_it(name: str, tau: float) -> None:
    method: Any = make_method(name, tau=tau)
    assert method.tau == tau


def test_an_option_that_a_method_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nudging has gate, tau; it does not take alpha, lambda_"):
        make_method("nudging", lambda_=0.1, alpha=0.5)
    with pytest.raises(ValueError, match=r"base has no options; it does not take tau"):
        make_method("base", tau=0.4)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of base, aligned, blendin.*not 'blend'"):
        make_method("blend")


def test_the_defaults_are_those_of_the_paper() -> None:
    method: Any = make_method("blendin")
    assert (method.tau, method.lambda_) == (0.4, 0.1)
