"""The authors' coefficients come out of the authors' figures."""

from __future__ import annotations

import paper


def test_the_six_coefficients():
    found = paper.correlations(paper.read_runs(), "all")
    expected = {
        "GSM8K": -0.649,
        "MMLU": -0.356,
        "TruthfulQA": -0.563,
        "ARC": -0.266,
        "XSTest": -0.758,
        "JustEval": -0.491,
    }
    assert {task: round(value, 3) for task, value in found.items()} == expected


def test_a_pair_is_of_one_family_or_of_two():
    runs = paper.read_runs()
    within, across = ([r for r in runs if r.is_in(scope)] for scope in ("within", "across"))
    assert (len(within), len(across), len(runs)) == (9 * 6, 6 * 6, 15 * 6)
    assert "| GSM8K | -0.649 |" in paper.table(runs)
