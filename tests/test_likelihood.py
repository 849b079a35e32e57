"""The table of options: what counts as right, and against whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from likelihood import METHODS, Choice, Scores, extend, is_right, methods_of, read_scores, report
from small_pairs import small_pair


def line(question: str, base: list[float], other: list[float]) -> Scores:
    totals = {name: base if name == "base" else other for name in METHODS}
    counts = dict.fromkeys(METHODS, 3)
    return Scores("arc", question, 0, [2, 8], totals, counts, dict.fromkeys(METHODS, 6))


def test_a_score_is_divided_by_its_bytes() -> None:
    one = line("Which?", [-4.0, -5.0], [-1.0, -8.0])
    assert is_right(one, "base", by_bytes=False)
    assert not is_right(one, "base", by_bytes=True)
    assert is_right(one, "blendin", by_bytes=True)


def test_the_table_counts_questions_won_and_lost() -> None:
    won = [line(f"Q{n}", [-4.0, -5.0], [-1.0, -8.0]) for n in range(3)]
    lost = [line("Q3", [-1.0, -8.0], [-4.0, -5.0])]
    rows = {row.split()[0]: row.split() for row in report(won + lost).splitlines()[2:]}
    assert rows["base"][1:3] == ["100%", "25.0%"]
    assert rows["blendin"][1:3] == ["100%", "75.0%"]
    assert rows["blendin"][6:9] == ["+3", "−1", "+50.0"]
    assert rows["blendin"][-1] == "50%"


def test_a_run_that_was_cut_goes_on(tmp_path: Path) -> None:
    file, pair = tmp_path / "scores.jsonl", small_pair(2)
    asked = [Choice("arc", f"What is {n}?", ("one thing", "two"), 0) for n in range(3)]
    asked += [Choice("arc", asked[0].question, ("another", "none"), 1)]  # known by its options
    extend(file, asked[:1], pair, methods_of(0.9, 0.5))
    first = file.read_text()
    file.write_text(first + '{"task": "arc", "ques')
    extend(file, asked, pair, methods_of(0.9, 0.5))
    assert file.read_text().startswith(first)
    found = read_scores(file)
    assert [one.question for one in found] == [one.question for one in asked]
    for one in found:
        assert one.log_probs["base"] != pytest.approx(one.log_probs["aligned"])
        assert one.interventions["kad"] == one.tokens["kad"]
