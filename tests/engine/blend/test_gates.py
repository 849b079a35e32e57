"""The gates: which number of the base's distribution opens them, and at which τ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blendin_mlx.answer_statistics import describe_method
from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend import formulas
from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.gates import GATES
from blendin_mlx.blend.method import View
from blendin_mlx.blend.methods import make_method

SIZE = 9
GATED = ("blendin", "fixed", "nudging")
SEEDS = st.integers(0, 2**31)


def view_of(probs: Any) -> View:
    array = mx.array(np.array(probs, dtype=np.float32))
    return View(array, *formulas.top(array))


def random_rows(seed: int, rows: int = 4) -> Any:
    rng = np.random.default_rng(seed)
    logits = rng.uniform(0.1, 6, size=(rows, 1)) * rng.normal(size=(rows, SIZE))
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def sureness(gate: str, probs: Any) -> Any:
    """How sure the base is, by the definitions: [...] for [..., V]."""
    ranked = np.sort(probs, axis=-1)
    return {
        "confidence": ranked[..., -1],
        "margin": ranked[..., -1] - ranked[..., -2],
        "entropy": np.exp((probs * np.log(probs)).sum(axis=-1)),
    }[gate]


@pytest.mark.parametrize("gate", GATES)
@given(seed=SEEDS, name=st.sampled_from(GATED), tau=st.floats(0.001, 1))
def test_it_opens_where_the_base_is_less_sure_than_tau(
    gate: str, seed: int, name: str, tau: float
) -> None:
    probs = random_rows(seed)
    distance = sureness(gate, probs) - tau
    assume(abs(distance).min() > 1e-5)
    method = make_method(name, gate=gate, tau=tau)
    for greedy in (True, False):
        assert method.unsure(view_of(probs), greedy).tolist() == (distance < 0).tolist()
        assert not method.always_asks(greedy)
    np.testing.assert_allclose(method.gate_margin(view_of(probs)), distance, atol=1e-5)
    for turned in (Dialled(method, 0.5), Dialled(method, temper=2.0)):
        np.testing.assert_allclose(turned.gate_margin(view_of(probs)), distance, atol=1e-5)


@pytest.mark.parametrize("gate", GATES)
@given(seed=SEEDS)
def test_tau_0_is_never_unsure(gate: str, seed: int) -> None:
    method = make_method("nudging", gate=gate, tau=0)
    assert not method.asks
    assert not any(method.unsure(view_of(random_rows(seed)), True).tolist())


@given(SEEDS, st.floats(0.001, 1))
def test_the_others_open_wherever_the_confidence_does(seed: int, tau: float) -> None:
    view = view_of(random_rows(seed))
    opened = np.array(view.confidence) < tau - 1e-5
    for gate in GATES:
        assert (
            np.array(make_method("blendin", tau=tau, gate=gate).unsure(view, True)) | ~opened
        ).all()


@pytest.mark.parametrize("count", [1, 2, 5, SIZE])
def test_equally_likely_tokens_are_counted_by_confidence_and_entropy(count: int) -> None:
    view = view_of([1 / count] * count + [0.0] * (SIZE - count))
    found = {gate: sure(view).item() for gate, sure in GATES.items()}
    assert found["confidence"] == pytest.approx(1 / count)
    assert found["entropy"] == pytest.approx(1 / count)
    assert found["margin"] == pytest.approx(float(count == 1))


def test_without_a_word_the_gate_is_the_confidence() -> None:
    assert describe_method(make_method("blendin"))["gate"] == "confidence"
    assert make_method("ensemble").gate_margin(view_of([0.5, 0.5])) is None


def test_an_unknown_gate_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of confidence, entropy, margin, not 'surprise'$"):
        make_method("fixed", gate="surprise")
    with pytest.raises(ValueError, match=r"kad has lambda_; it does not take gate$"):
        make_method("kad", gate="entropy")
