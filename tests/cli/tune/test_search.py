"""What is chosen, held out and judged, on readings whose answer is known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from blendin_cli.diagnosis.bootstrap import Difference
from blendin_cli.tune.search import TAUS, grid, places, search
from blendin_cli.tune.verdict import FEWEST, dial_words, judge, remarks
from blendin_mlx.scoring.calibration import calibration, fit_temperature
from blendin_mlx.scoring.dial_map import Dial, DialMap
from blendin_mlx.scoring.readings import Reading

TOKENS = 12


def reading(seed: int, base: float, guide: float, alone: float | None = None) -> Reading:
    """Probabilities of right tokens about ``base`` and ``guide``, and of all else nothing known."""
    rng = np.random.default_rng(seed)

    def around(middle: float, *shape: int) -> np.ndarray:
        return np.clip(middle * rng.uniform(0.7, 1.3, shape), 1e-6, 1.0)

    own, advised = around(base, TOKENS), around(guide, 1, TOKENS)
    flags = rng.random(TOKENS) < 0.5
    return Reading(
        temperatures=np.array([1.0]),
        tokens=np.arange(TOKENS),
        base_prob=own,
        base_top=np.maximum(own, 0.5),
        guide_prob=advised,
        guide_top=np.maximum(advised, 0.5),
        agreement=np.full((1, TOKENS), 0.1),
        readable=np.full(TOKENS, True),
        same_top=flags,
        base_right=flags,
        guide_right=flags,
        guide_total=float(np.log(advised).sum()) if alone is None else alone * TOKENS,
    )


def found(count: int, base: float, guide: float, alone: float | None = None):
    return search(DialMap([reading(n, base, guide, alone) for n in range(count)]), Dial())


def test_a_guide_that_knows_nothing_is_not_to_be_used():
    outcome = found(20, 0.4, 0.001)
    assert judge(outcome) == "base"
    assert outcome.over_base.value == pytest.approx(0, abs=1e-9)
    assert outcome.worse == 0


def test_a_guide_that_knows_all_is_used_alone():
    assert judge(found(20, 0.1, 0.7)) == "guide"


def test_verdict_blend_where_only_the_guides_own_text_is_unlikely():
    outcome = found(20, 0.1, 0.7, alone=-3.0)
    assert judge(outcome) == "blend"
    assert (outcome.best.tau, outcome.best.alpha) == (pytest.approx(0.6, abs=0.41), 1.0)
    assert outcome.over_base.low > 1
    assert outcome.over_default.low > 0


def test_fewer_than_twelve_are_not_judged():
    assert judge(found(FEWEST - 1, 0.1, 0.7)) == "undecided"
    assert judge(found(FEWEST, 0.1, 0.7)) == "guide"


@pytest.mark.parametrize(
    ("over_base", "over_guide", "guide_over_base", "verdict"),
    [
        ((0.1, 0.05, 0.2), (0.1, 0.05, 0.2), (0.0, -0.1, 0.1), "blend"),
        ((0.1, 0.05, 0.2), (0.1, -0.05, 0.2), (0.0, -0.1, 0.1), "blend"),
        ((0.1, 0.05, 0.2), (-0.1, -0.3, 0.2), (0.2, 0.1, 0.3), "guide"),
        ((0.0, -0.1, 0.0), (0.1, 0.0, 0.2), (-0.1, -0.2, -0.05), "base"),
        ((0.0, -0.1, 0.1), (0.1, 0.0, 0.2), (-0.1, -0.2, 0.05), "undecided"),
        ((0.0, -0.1, 0.1), (0.1, 0.0, 0.2), (0.2, 0.1, 0.3), "guide"),
    ],
)
def test_the_verdict_follows_from_the_intervals(over_base, over_guide, guide_over_base, verdict):
    outcome = replace(
        found(FEWEST, 0.1, 0.7),
        over_base=Difference(*over_base),
        over_guide=Difference(*over_guide),
        guide_over_base=Difference(*guide_over_base),
    )
    assert judge(outcome) == verdict


def test_held_out_prompts_have_no_part_in_choosing():
    """One prompt that alone would change the choice cannot make itself look better."""
    readings = [reading(n, 0.4, 0.001) for n in range(9)]
    readings.append(reading(99, 1e-6, 0.9))
    read = DialMap(readings)
    outcome = search(read, Dial())
    assert read.totals([outcome.best])[0, -1] > read.base_totals[-1] + 10
    assert outcome.tuned[-1][0] == pytest.approx(read.base_totals[-1])
    assert outcome.agreed < 1
    held_out = np.add.reduceat(outcome.held_out, np.arange(10) * TOKENS)
    assert held_out == pytest.approx(np.array([part for part, _ in outcome.tuned]))


def test_gains_by_place_sum_to_the_whole():
    read = DialMap([reading(n, 0.1, 0.7) for n in range(6)])
    outcome = search(read, Dial())
    breaks = [n % TOKENS == 5 for n in range(6 * TOKENS)]
    lines = places(read, outcome, ["a", "b"] * 3, breaks)
    by_name = {line.name: line for line in lines}
    assert (by_name["first tokens"].tokens, by_name["line breaks"].tokens) == (18, 6)
    for names in (("first tokens", "line breaks", "other tokens"), ("kind: a", "kind: b")):
        assert sum(by_name[name].share for name in names) == pytest.approx(1.0)


def test_some_thousand_settings_are_tried_and_the_default_among_them():
    assert len(set(grid((0.5, 1.0, 2.0, 2.8), 0.1))) > 1000
    odd = Dial(tau=0.123)
    assert search(DialMap([reading(0, 0.4, 0.001)]), odd).defaults[0][1] == TOKENS
    assert min(TAUS) > 0


def test_uncertain_verdicts_say_so():
    outcome = found(FEWEST, 0.1, 0.7, alone=-3.0)
    read = DialMap([reading(n, 0.1, 0.7) for n in range(FEWEST)])
    unsure = replace(outcome, over_default=Difference(0.1, -0.1, 0.3))
    lines = remarks(unsure, calibration(read, 1.0), fit_temperature(read))
    assert lines[0] == "use it at these settings"
    assert any("better than the default" in line for line in lines)
    assert any("expected calibration error" in line for line in lines)
    assert any("--guide-temp 1.00" in line for line in lines)
    assert "blendin diagnose" in lines[-1]


@pytest.mark.parametrize(
    ("dial", "words"),
    [
        (Dial(), "--tau 0.4 --alpha auto"),
        (Dial(1.0, 0.5, guide_temp=1.4), "--tau 1.0 --alpha 0.5 --guide-temp 1.4"),
        (Dial(0.9, None, scale=0.5), "--tau 0.9 --alpha auto --dial 0.5"),
        (Dial(0.9, 0.0), "base alone"),
    ],
)
def test_a_setting_is_spelled_as_options(dial, words):
    assert dial_words(dial) == words
