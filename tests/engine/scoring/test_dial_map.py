"""The map of the dial is what scoring each setting the long way gives."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.methods import make_method
from blendin_mlx.model import Pair
from blendin_mlx.prompts import build_prompt
from blendin_mlx.scoring.calibration import calibration, fit_temperature, reliability
from blendin_mlx.scoring.dial_map import Dial, DialMap, dial_map
from blendin_mlx.scoring.readings import Reading, read_example
from blendin_mlx.scoring.score import score
from scripted import STOP, always, says, scripted_pair
from small_pairs import small_model, small_pair

ANSWERS = (
    ("How do I boil an egg?", "Put it in boiling water for seven minutes."),
    ("Name a colour.", "Blue."),
    ("Wie heißt das Meer?", "Es heißt Nordsee, naïve ☃."),
)


def settings(rng: random.Random) -> Dial:
    """Any setting at temperature 1."""
    alpha = rng.choice([None, None, 0.0, 1.0, rng.random()])
    return Dial(rng.random(), alpha, rng.choice([0.0, 0.1, 1.0]), rng.choice([0.3, 1.0]))


def long_way(pair: Pair, dial: Dial) -> list[float]:
    """The log-likelihoods at a setting, each text read for it alone."""
    if dial.alpha is None:
        method: Any = make_method("blendin", tau=dial.tau, lambda_=dial.lambda_)
    else:
        method = make_method("fixed", tau=dial.tau, alpha=dial.alpha)
    return [
        score(pair, prompt, answer, method=Dialled(method, dial.scale)).total
        for prompt, answer in ANSWERS
    ]


def read(pair: Pair, **options: Any) -> DialMap:
    """The map of the answers above."""
    return dial_map(pair, [(build_prompt(pair, one), two) for one, two in ANSWERS], **options)


@pytest.mark.parametrize("tokenizers", [1, 2])
def test_twenty_settings_the_long_way(tokenizers: int) -> None:
    pair, rng = small_pair(tokenizers), random.Random(7)
    found = read(pair, temperatures=(1.0, 2.0))
    dials = [settings(rng) for _ in range(20)]
    expected = np.array([long_way(pair, dial) for dial in dials])
    assert found.totals(dials) == pytest.approx(expected, abs=0.02)
    assert len(set(expected[:, 0])) > 12
    for dial, row in zip(dials, found.totals(dials), strict=True):
        assert found.log_probs(dial).sum() == pytest.approx(row.sum())
    assert found.base_totals == pytest.approx(np.array(long_way(pair, Dial(tau=0.0))), abs=0.01)
    own = [score(pair, prompt, answer, method="aligned").total for prompt, answer in ANSWERS]
    assert found.guide_totals == pytest.approx(np.array(own), abs=0.01)


def test_a_temperature_is_that_of_the_guides_logits() -> None:
    pair = small_pair()
    found = read(pair, temperatures=(1.0, 2.0)).totals([Dial(0.8, guide_temp=2.0)])[0]
    half = Pair(pair.base, small_model(1, 2, 1.25))
    expected = long_way(half, Dial(0.8))
    assert found == pytest.approx(np.array(expected), abs=0.01)


def test_what_was_not_read_cannot_be_asked() -> None:
    pair = scripted_pair(always({}), always({}))
    found = read(pair, temperatures=(1.0,))
    with pytest.raises(ValueError, match=r"guide_temp must be one of 1, .* not 2"):
        found.totals([Dial(guide_temp=2.0)])
    with pytest.raises(ValueError, match="above 0"):
        read(pair, temperatures=(0.0,))
    with pytest.raises(ValueError, match="a map needs readings"):
        DialMap([])
    for wrong in ({"tau": 1.1}, {"alpha": -0.1}, {"scale": 2.0}, {"lambda_": float("nan")}):
        with pytest.raises(ValueError, match="must be between 0"):
            Dial(**wrong)


def test_one_token_is_carried_as_all_are() -> None:
    pair = small_pair(2)
    mx.random.seed(0)
    probs = mx.softmax(mx.random.normal((4, pair.aligned.vocabulary.size)), axis=-1)
    for rule in ("prefix", "shared"):
        projection = pair.projection(rule)
        tokens = [pair.base.vocabulary.encode(one)[0] for one in (" the", "naïve", " ")]
        tokens.append(pair.base.vocabulary.stop)
        whole = projection.carry(probs).probs
        expected = [whole[n, token].item() for n, token in enumerate(tokens)]
        found = projection.carry_to(probs, tokens)
        assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_a_reading_survives_being_kept() -> None:
    pair = scripted_pair(says({"": {" sea": 0.7}}), always({" blue": 0.6}), tokenizers=2)
    made = read_example(pair, build_prompt(pair, "Hi"), " sea.")
    kept = Reading.from_json(json.loads(json.dumps(made.as_json())))
    dials = [Dial(), Dial(1.0, 0.5, guide_temp=2.0)]
    assert (DialMap([kept]).totals(dials) == DialMap([made]).totals(dials)).all()
    assert kept.as_json() == made.as_json()
    for damage in ({}, {**made.as_json(), "agreement": [[1.0]]}, {**made.as_json(), "tokens": "x"}):
        with pytest.raises(ValueError, match="not a reading"):
            Reading.from_json(damage)


def test_what_calibration_needs() -> None:
    pair = scripted_pair(
        says({"": {" sea": 0.7}, " sea": {".": 0.8}}), always({" sea": 0.6, STOP: 0.3})
    )
    made = read_example(pair, build_prompt(pair, "Hi"), " sea.")
    assert made.same_top.tolist() == [True, False, False]
    assert made.base_right.tolist() == [True, True, False]
    assert made.guide_right.tolist() == [True, False, False]
    assert made.base_top[:2].tolist() == pytest.approx([0.7, 0.8], abs=1e-5)
    assert made.guide_top[2].tolist() == pytest.approx([0.6] * 3, abs=1e-5)


def test_reliability_by_hand() -> None:
    confidence = np.array([0.05, 0.95, 0.95, 0.95, 0.95, 1.0])
    right = np.array([False, True, True, False, False, False])
    found = reliability(confidence, right)
    assert [(one.count, one.right) for one in found.bins] == [(1, 0.0), (5, 0.4)]
    assert found.error == pytest.approx((0.05 + 5 * (0.96 - 0.4)) / 6)
    assert reliability(np.array([]), np.array([], dtype=bool)).error is None


def test_calibration_where_the_gate_is_open() -> None:
    found = read(small_pair())
    whole, part = calibration(found, 1.0), calibration(found, 0.2)
    everything = sum(one.count for one in whole.base.bins)
    assert everything == found.counts.sum()
    gate = sum(one.count for one in part.guide_open.bins)
    assert 0 < gate == found.is_open(0.2).sum() < everything


def test_the_guides_temperature_is_found_where_they_agree() -> None:
    """A guide that is the base with logits twice as large is itself at temperature 2."""
    both = Pair(small_model(1, 1, 1.5), small_model(1, 1, 3.0))
    text = " ".join(answer for _, answer in ANSWERS)
    prompt = build_prompt(both, "Hi")
    prompt = replace(prompt, aligned=prompt.base)
    found = dial_map(both, [(prompt, text)])
    assert found.joined("same_top").all()
    assert fit_temperature(found) == pytest.approx(2.0, abs=0.02)
    few = dial_map(both, [(prompt, "Blue.")])
    assert fit_temperature(few) is None
