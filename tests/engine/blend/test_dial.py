"""The dial: 0 is the base alone, 1 the method, between them a straight line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.answer_statistics import describe_method
from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend import formulas
from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.method import Advice, View
from blendin_mlx.blend.methods import make_method

SIZE = 7


def view(seed: int) -> View:
    probs = mx.array(np.random.default_rng(seed).dirichlet(np.ones(SIZE))[None].astype("float32"))
    return View(probs, *formulas.top(probs))


def advice(seed: int) -> Advice:
    one = view(seed)
    mass = mx.ones((1,))
    return Advice(one.probs, one.confidence, one.token, one.token, mass, mass, mx.zeros((1,)))


@pytest.mark.parametrize("name", ["blendin", "nudging", "ensemble", "aligned", "kad"])
@given(seed=st.integers(0, 99), dial=st.floats(0, 1, width=32))
def test_it_is_a_straight_line_between_base_and_method(name, seed, dial):
    method, base, aligned = make_method(name), view(seed), advice(seed + 100)
    whole = method.target(base, aligned)
    turned = Dialled(method, dial).target(base, aligned)
    line = (1 - dial) * np.array(base.probs) + dial * np.array(whole.probs)
    assert np.allclose(np.array(turned.probs), line, atol=1e-6)
    assert turned.alpha.item() == pytest.approx(dial * whole.alpha.item(), abs=1e-6)


def test_at_zero_the_guide_is_not_asked():
    assert not Dialled(make_method("nudging"), 0).asks
    assert Dialled(make_method("nudging"), 0.1).asks
    assert not Dialled(make_method("base"), 1).asks


def test_it_is_described_with_the_method():
    described = describe_method(Dialled(make_method("nudging", tau=0.3), 0.5))
    assert (described["method"], described["tau"], described["dial"]) == ("nudging", 0.3, 0.5)


@pytest.mark.parametrize("dial", [-0.1, 1.1, float("nan")])
def test_out_of_range(dial):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dialled(make_method("nudging"), dial)
