"""From a distribution to a token: greedy, or a draw from exactly what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.formulas import level, probabilities
from blendin_mlx.blend.sampling import Chooser

Array = npt.NDArray[np.float64]
PROBS = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
DRAWS = 4000
# 99.99 % quantiles of chi-square for 1 to 5 degrees of freedom.
CRITICAL = (15.14, 18.42, 21.11, 23.51, 25.74)


def row(probs: Array) -> mx.array:
    return mx.array(probs.astype(np.float32))[None]


def normalised(weights: Array) -> Array:
    total: float = weights.sum()
    return weights / total


def draws(sampler: Callable[[mx.array], mx.array], probs: Array, n: int, seed: int) -> list[int]:
    """Many positions at once, each drawn for itself."""
    mx.random.seed(seed)
    chosen = Chooser(sampler).choose(mx.repeat(row(probs), n, axis=0), [])
    return [int(token) for token in np.array(chosen)]


def assert_drawn_from(expected: Array, chosen: list[int]) -> None:
    counts = np.bincount(chosen, minlength=len(expected)).astype(np.float64)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    wanted = expected[possible] * len(chosen)
    distance = ((counts[possible] - wanted) ** 2 / wanted).sum()
    assert distance < CRITICAL[possible.sum() - 2]


@given(st.integers(0, 2**31), st.integers(1, 3))
def test_greedy_takes_the_top_token_whatever_the_random_state(seed: int, rows: int) -> None:
    probs = np.random.default_rng(seed).dirichlet(np.ones(9), size=rows).astype(np.float32)
    mx.random.seed(seed)
    chosen = Chooser().choose(mx.array(probs), [1, 2])
    assert chosen.tolist() == probs.argmax(axis=-1).tolist()


def test_only_a_chooser_without_sampler_and_processors_is_greedy() -> None:
    assert Chooser().is_greedy
    assert not Chooser(make_sampler(temp=0.5)).is_greedy
    assert not Chooser(None, [lambda tokens, scores: scores]).is_greedy


def test_a_sampler_gets_normalised_log_probabilities() -> None:
    seen: list[Any] = []

    def sampler(scores: mx.array) -> mx.array:
        seen.append(np.array(scores))
        return mx.array([3])

    halved = Chooser(sampler, [lambda tokens, scores: scores - 5])
    for chooser in (Chooser(sampler), halved):
        assert chooser.choose(row(PROBS), []).tolist() == [3]
    for scores in seen:
        assert scores.shape == (1, len(PROBS))
        np.testing.assert_allclose(np.exp(scores[0]), PROBS, rtol=1e-5)


@pytest.mark.parametrize("temp", [0.5, 1.0, 1.7])
def test_draws_at_a_temperature_follow_the_exact_distribution(temp: float) -> None:
    exact = normalised(PROBS ** (1 / temp))
    assert_drawn_from(exact, draws(make_sampler(temp=temp), PROBS, DRAWS, seed=1))


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [("top_p", 0.7, 3), ("top_p", 0.5, 2), ("min_p", 0.3, 3), ("top_k", 2, 2), ("top_k", 4, 4)],
)
def test_draws_from_a_cut_distribution_follow_it_exactly(
    option: str, value: float, kept: int
) -> None:
    exact = normalised(np.where(np.arange(len(PROBS)) < kept, PROBS, 0))
    sampler = make_sampler(temp=1.0, **{option: value})
    assert_drawn_from(exact, draws(sampler, PROBS, DRAWS, seed=2))


def test_a_token_without_probability_is_never_drawn() -> None:
    probs = np.array([0.0, 0.5, 0.0, 0.5])
    assert set(draws(make_sampler(temp=2.0), probs, 500, seed=3)) == {1, 3}


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_the_same_seed_draws_the_same_tokens(seed: int) -> None:
    sampler = make_sampler(temp=1.0)
    assert draws(sampler, PROBS, 50, seed) == draws(sampler, PROBS, 50, seed)


def test_seed_0_is_a_seed_like_any_other() -> None:
    sampler = make_sampler(temp=1.0)
    assert draws(sampler, PROBS, 50, 0) != draws(sampler, PROBS, 50, 1)


def test_processors_see_all_tokens_so_far_and_the_logarithm_of_the_distribution() -> None:
    seen: list[tuple[list[int], Any]] = []

    def processor(tokens: mx.array, scores: mx.array) -> mx.array:
        seen.append((tokens.tolist(), np.array(scores)))
        return scores

    Chooser(None, [processor]).choose(row(PROBS), [7, 8, 9])
    Chooser(None, [processor]).choose(row(PROBS), [])
    assert [tokens for tokens, _ in seen] == [[7, 8, 9], []]
    np.testing.assert_allclose(np.exp(seen[0][1][0]), PROBS, rtol=1e-5)


def test_processors_are_applied_one_after_the_other() -> None:
    chooser = Chooser(
        None,
        [
            lambda tokens, scores: scores * 0,
            lambda tokens, scores: mx.where(mx.arange(scores.shape[-1]) == 4, 1.0, scores),
        ],
    )
    assert chooser.choose(row(PROBS), []).tolist() == [4]


def test_a_repetition_penalty_weighs_on_the_distribution_that_decides() -> None:
    processors = make_logits_processors(repetition_penalty=3.0, repetition_context_size=4)
    # ln 0.4 · 3 < ln 0.25: the top token was just said, so the next one wins.
    assert Chooser(None, processors).choose(row(PROBS), [5, 0]).tolist() == [1]
    assert Chooser(None, processors).choose(row(PROBS), [5, 5]).tolist() == [0]
    scores = np.log(PROBS)
    scores[0] *= 3.0
    exact = normalised(np.exp(scores))
    chooser = Chooser(make_sampler(temp=1.0), processors)
    mx.random.seed(4)
    chosen = [int(chooser.choose(row(PROBS), [0]).item()) for _ in range(1500)]
    assert_drawn_from(exact, chosen)


def test_a_bias_can_forbid_a_token() -> None:
    processors = make_logits_processors(logit_bias={0: -1e9})
    assert Chooser(None, processors).choose(row(PROBS), [1]).tolist() == [1]
    chooser = Chooser(make_sampler(temp=1.0), processors)
    mx.random.seed(5)
    assert all(chooser.choose(row(PROBS), [1]).item() != 0 for _ in range(200))


def test_logits_are_log_probabilities_on_the_base_s_level() -> None:
    logits = mx.array([[5.0, 4.0, -3.0, 1.0, -90.0, 60.0, 7.0]])
    size = 5
    seen: list[Any] = []

    def processor(tokens: mx.array, scores: mx.array) -> mx.array:
        seen.append(np.array(scores))
        return scores

    probs = probabilities(logits, size)
    Chooser(None, [processor]).choose(probs, [1], level(logits, size))
    np.testing.assert_allclose(seen[0][0, :4], np.array(logits)[0, :4], atol=1e-5)


def test_a_penalty_divides_logits_above_0_of_a_sure_distribution() -> None:
    logits = mx.array([[9.0, 4.0, 2.0]])
    processors = make_logits_processors(repetition_penalty=3.0)
    sure = probabilities(logits, 3)  # 99 % on the first: as a log-probability it stays there
    assert Chooser(None, processors).choose(sure, [0], level(logits, 3)).tolist() == [1]
    assert Chooser(None, processors).choose(sure, [2], level(logits, 3)).tolist() == [0]
