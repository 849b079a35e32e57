"""What a run cost and how it was decided, counted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.answer_statistics import Statistics, describe_method
from blendin_mlx.blend.methods import make_method
from blendin_mlx.step import Candidate, Guidance, Step

SHUT = Step(
    index=0,
    id=5,
    source="base",
    base=Candidate(5, 0.9),
    guidance=None,
    prob=0.9,
    stop_prob=0.0,
    gate_margin=0.5,
    gap=0.8,
)
OPEN = replace(
    SHUT,
    source="blend",
    guidance=Guidance(Candidate(7, 0.6), alpha=0.5, exact_mass=0.75, prefix_mass=0.25),
    base=Candidate(5, 0.3),
)
OVERRIDE = replace(
    OPEN,
    id=6,
    guidance=Guidance(Candidate(7, 0.6), alpha=0.25, exact_mass=0.25, prefix_mass=0.75),
)
CHECKED = replace(SHUT, stop_check=True)


def made(steps: list[Step]) -> Statistics:
    statistics = Statistics(describe_method(make_method("blendin")), "either", 11, 13)
    for step in steps:
        statistics.add(step)
    return statistics


def test_an_answer_counted_by_hand() -> None:
    statistics = made([SHUT, OPEN, OVERRIDE, CHECKED])
    assert statistics.completion_tokens == 4
    assert statistics.token_ids == [5, 5, 6, 5]
    assert statistics.interventions == 2
    assert statistics.intervention_rate == 0.5
    assert statistics.overrides == 1
    assert statistics.stop_checks == 1
    assert statistics.mean_alpha == pytest.approx(0.375)
    assert statistics.exact_mass == pytest.approx(0.5)


def test_overrides_are_unknown_where_the_base_was_not_run() -> None:
    alone = replace(OVERRIDE, base=None)
    assert not alone.is_override
    statistics = made([OVERRIDE, alone, OVERRIDE])
    assert (statistics.overrides, statistics.interventions) == (None, 3)
    assert statistics.as_json()["blend"]["overrides"] is None


@given(st.lists(st.sampled_from([SHUT, OPEN, OVERRIDE, CHECKED])))
def test_counts_never_exceed_the_steps(steps: list[Step]) -> None:
    statistics = made(steps)
    assert statistics.overrides <= statistics.interventions <= statistics.completion_tokens
    assert 0 <= statistics.intervention_rate <= 1
    assert (statistics.mean_alpha is None) == (statistics.interventions == 0)
    assert (statistics.exact_mass is None) == (statistics.interventions == 0)


def test_no_step_at_all_is_no_division_by_zero() -> None:
    statistics = made([])
    assert statistics.intervention_rate == 0
    assert statistics.tokens_per_s == 0
    assert statistics.mean_alpha is None


def test_an_alpha_of_0_is_an_intervention() -> None:
    statistics = made([replace(OPEN, guidance=replace(OPEN.guidance, alpha=0.0))])
    assert statistics.interventions == 1
    assert statistics.mean_alpha == 0


def test_tokens_per_second_are_those_of_decoding() -> None:
    statistics = made([SHUT] * 10)
    statistics.prefill_s, statistics.decode_s = 100.0, 2.0
    assert statistics.tokens_per_s == 5


@given(st.lists(st.sampled_from([SHUT, OPEN, OVERRIDE, CHECKED])), st.integers(0, 9))
def test_kept_steps_count_as_if_they_were_decided_now_and_take_no_time(
    steps: list[Step], cut: int
) -> None:
    rest = made(steps[cut:])
    rest.decode_s = 2.0
    before = json.dumps(rest.as_json())
    whole = rest.after(steps[:cut])
    assert whole.as_json()["blend"] == made(steps).as_json()["blend"]
    assert whole.token_ids == [step.id for step in steps]
    assert whole.kept_tokens == len(steps[:cut])
    assert whole.tokens_per_s == rest.tokens_per_s
    assert json.dumps(rest.as_json()) == before


def test_the_json_object_has_the_promised_groups() -> None:
    described = json.loads(json.dumps(made([SHUT, OPEN]).as_json()))
    assert list(described["usage"].values()) == [11, 13, 2]
    assert set(described["blend"]) >= {
        *("method", "tau", "alpha", "lambda", "stop_policy", "interventions"),
        *("intervention_rate", "overrides", "stop_checks", "mean_alpha", "exact_mass"),
    }
    assert set(described) >= {
        *(
            "text",
            "finish_reason",
            "usage",
            "blend",
            "passes",
            "cache",
            "timing",
            "memory",
            "token_ids",
        ),
    }
    assert described["token_ids"] == [5, 5]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "blendin",
            {"tau": 0.3},
            {"tau": 0.3, "gate": "confidence", "alpha": "auto", "lambda": 0.1},
        ),
        ("fixed", {"alpha": 0.0}, {"tau": 0.4, "gate": "confidence", "alpha": 0.0}),
        ("nudging", {"gate": "margin"}, {"tau": 0.4, "gate": "margin", "alpha": None}),
        ("base", {}, {"tau": None, "alpha": None}),
        ("aligned", {}, {"tau": None, "alpha": None}),
        ("kad", {"lambda_": 0.3}, {"tau": None, "alpha": None, "lambda": 0.3}),
        ("confidence-bet", {}, {"tau": None, "alpha": None, "lambda": 0.2}),
        ("proxy-tuning", {"beta": 0.5}, {"tau": None, "alpha": None, "beta": 0.5}),
        ("contrastive", {}, {"tau": None, "alpha": None, "lambda": 0.1, "beta": 0.5}),
    ],
)
def test_a_method_is_described_by_its_name_and_options(
    name: str, options: dict[str, Any], expected: dict[str, object]
) -> None:
    assert describe_method(make_method(name, **options)) == {"method": name, **expected}
