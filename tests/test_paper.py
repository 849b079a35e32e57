"""The authors' coefficients come out of the authors' figures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "paper.py"


@pytest.fixture(scope="module")
def paper():
    spec = importlib.util.spec_from_file_location("paper", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_six_coefficients(paper):
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


def test_a_pair_is_of_one_family_or_of_two(paper):
    runs = paper.read_runs()
    within, across = ([r for r in runs if r.is_in(scope)] for scope in ("within", "across"))
    assert (len(within), len(across), len(runs)) == (9 * 6, 6 * 6, 15 * 6)
    assert "| GSM8K | -0.649 |" in paper.table(runs)
