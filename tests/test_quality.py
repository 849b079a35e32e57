"""The rules that score answers, the draw of the questions and the intervals keep their word."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "quality.py"


@pytest.fixture(scope="module")
def quality():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))
        spec = importlib.util.spec_from_file_location("quality", FILE)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "quality", module)
        spec.loader.exec_module(module)
        yield module


# The rules

LISTED = "A. rock\nB. metal\nC. food\nD. love"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("B", "B"),
        ("B. metal", "B"),
        ("The answer is (C).", "C"),
        ("**D** is right", "D"),
        ("A. rock\n\n1. The answer is A.\nA. rock", "A"),
        ("A. rock\nIt is not B. metal", "A"),
        (LISTED, None),
        ("Which?\n" + LISTED + "\nThe answer is B.", None),
        ("(C) food\n(D) love", None),
        ("B\n\nQuestion: And this?\nA. one\nB. two", "B"),
        ("A rock is hard", None),
        ("rock", None),
        ("", None),
    ],
)
def test_a_choice_is_the_first_letter_unless_several_options_are_listed(quality, text, named):
    assert quality.read_answer("choices", "Which?\n" + LISTED, text) == named


PUNCH = "She mixes 3 parts lemonade with 5 parts juice. How much for a 72 cup bowl?"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("18.", "18"),
        ("5 - 3 = 2, and 2 * 9 = 18\nThe answer is 18 cups", "18"),
        ("It costs $1,250.50", "1250.5"),
        ("20, 30", "30"),
        ("1102609", "1102609"),
        ("100", "100"),
        ("2.0", "2"),
        ("She needs eighteen.", None),
        ("", None),
        (PUNCH, None),
        ("she mixes 3 parts lemonade with 5 parts juice", None),
        ("She mixes 3 parts with 5 parts juice.", None),
        ("She mixes 5 parts juice with 3 parts lemonade.", "3"),
        ("A 72 cup bowl", "72"),
        ("18.\n\n# Question:\nWhat is 1 + 1?", "18"),
        ("# Question:\nWhat is 1 + 1?", None),
        ("She mixes 3 parts lemonade with 5 parts juice. That is 8.", "8"),
    ],
)
def test_a_sum_is_the_last_number_unless_the_question_is_repeated(quality, text, named):
    assert quality.read_answer("sums", PUNCH, text) == named


def test_a_sum_that_the_limit_cut_has_no_answer_and_a_choice_has(quality):
    assert quality.read_answer("sums", PUNCH, "The answer is 18", is_cut=True) is None
    went_on = "The answer is 18.\nQuestion: What is"
    assert quality.read_answer("sums", PUNCH, went_on, is_cut=True) == "18"
    assert quality.read_answer("choices", "Which?", "B. metal, since", is_cut=True) == "B"


# The questions


def openbook(count):
    options = ("rock", "metal", "food", "love")
    listed = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)]
    return [
        {"question": f"What {n}? ", "options": "\n".join(listed), "answer": listed[0]}
        for n in range(count)
    ]


def test_right_letters_are_spread_evenly_and_stay_with_their_text(quality):
    drawn = quality.draw_choices(openbook(50), 40)
    assert Counter(question.answer for question in drawn) == dict.fromkeys("ABCD", 10)
    for question in drawn:
        lines = question.text.splitlines()
        assert [line[:3] for line in lines[1:5]] == ["A. ", "B. ", "C. ", "D. "]
        assert f"{question.answer}. rock" in lines
        assert {line[3:] for line in lines[1:5]} == {"rock", "metal", "food", "love"}
    wrong = {tuple(line[3:] for line in question.text.splitlines()[1:5]) for question in drawn}
    assert len(wrong) > 8, "the wrong options are shuffled as well"


def test_the_draw_is_the_same_each_time_and_fewer_are_a_part_of_more(quality):
    lines = openbook(500)
    assert quality.draw_choices(lines, 40) == quality.draw_choices(lines, 400)[:40]
    assert quality.draw_choices(lines, 4) != quality.draw_choices(lines[:4], 4)


@pytest.mark.parametrize("count", [-1, 6])
def test_a_number_of_questions_that_cannot_be_drawn_is_refused(quality, count):
    with pytest.raises(SystemExit, match=f"{count} questions cannot be drawn; the set has 5"):
        quality.draw_choices(openbook(5), count)


def test_no_question_may_be_drawn(quality):
    assert quality.draw_choices(openbook(5), 0) == quality.spread([], []) == []


def test_sums_have_one_number_as_answer(quality):
    answers = ["9 apples", "1,5", "3/4", "yes", "2.50 dollars", "7 and 8"]
    lines = [{"passage": "So.", "question": f"{a}? ", "answer": a} for a in answers]
    drawn = quality.draw_sums(lines, 2)
    assert sorted(question.answer for question in drawn) == ["2.5", "9"]
    assert all(question.text.endswith("?\nAnswer with one number.") for question in drawn)


def test_both_sets_are_spread_over_the_whole(quality):
    two = [quality.Question("sums", f"s{n}", "1") for n in range(2)]
    four = [quality.Question("choices", f"c{n}", "A") for n in range(4)]
    texts = [question.text for question in quality.spread(two, four)]
    assert texts == ["c0", "s0", "c1", "c2", "s1", "c3"]
    assert quality.spread([], four) == four


# The intervals


def test_wilson_by_hand(quality):
    # 5 of 10: the middle is 1/2, the half 1.96 √(0.25/10 + 1.96²/400) / (1 + 1.96²/10) = 0.26341
    assert quality.wilson(5, 10) == pytest.approx((0.5 - 0.26341, 0.5 + 0.26341), abs=1e-5)


def test_the_paired_interval_by_hand(quality):
    # Both have the same 5 of 10 right: φ = (5 · 5 − 10/2) / √(5 · 5 · 5 · 5) = 0.8, so that the
    # halves of 0.26341 join to 0.26341 √(1 − 2 · 0.8 + 1) = 0.16660.
    assert quality.newcombe(5, 0, 0, 5) == pytest.approx((-0.16660, 0.16660), abs=1e-5)


def test_the_paired_interval_of_an_uneven_table(quality):
    # The published figures for the table 36, 12, 2, 0 (Newcombe 1998, method 10).
    assert quality.newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    low, high = quality.newcombe(36, 2, 12, 0)
    assert (-high, -low) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_the_paired_interval_without_any_right_answer_has_a_width(quality):
    low, high = quality.newcombe(0, 0, 0, 40)
    assert -0.1 < low < 0 < high < 0.1


# Keeping and resuming


class Scribe:
    """Answers whatever it is asked, and counts."""

    def __init__(self, quality, text="A"):
        self.quality = quality
        self.text = text
        self.asked = []

    def __call__(self, missing, max_tokens):
        for question, method in missing:
            self.asked.append((question, method))
            yield self.quality.Answer(question, method, max_tokens, self.text, "stop", 3, 1)


@pytest.fixture
def asked(quality):
    return [quality.Question("choices", f"Question {n}?", "ABCD"[n % 4]) for n in range(4)]


def test_a_run_goes_on_after_a_half_written_line(quality, asked, tmp_path):
    file = tmp_path / "answers.jsonl"
    quality.ask(asked[:2], file, 96, Scribe(quality))
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    scribe = Scribe(quality)
    quality.ask(asked[:2], file, 96, scribe)
    assert scribe.asked == [("Question 1?", quality.METHODS[-1])]
    assert file.read_bytes() == whole


def test_only_what_the_file_lacks_is_asked(quality, asked, tmp_path):
    file, methods = tmp_path / "answers.jsonl", quality.METHODS
    first, same, other = Scribe(quality), Scribe(quality), Scribe(quality)
    quality.ask(asked[:1], file, 96, first)
    assert first.asked == [("Question 0?", method) for method in methods]
    quality.ask(asked[:1], file, 96, same)
    assert same.asked == []
    quality.ask(asked[:1], file, 40, other)
    assert other.asked == first.asked, "another limit is another answer"


def test_a_report_leaves_a_half_written_line_alone(quality, asked, tmp_path):
    file = tmp_path / "answers.jsonl"
    quality.ask(asked[:1], file, 96, Scribe(quality))
    half = file.read_bytes()[:-20]
    file.write_bytes(half)
    assert len(quality.read_answers(file, 96)) == len(quality.METHODS) - 1
    assert file.read_bytes() == half


@pytest.mark.parametrize("line", ['{"question": "Wh', '{"question": "What?", "set": "sums"}', "3"])
def test_a_line_of_another_kind_is_named(quality, asked, tmp_path, line):
    file = tmp_path / "answers.jsonl"
    quality.ask(asked[:1], file, 96, Scribe(quality))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(SystemExit, match="line 2: no answer of this program"):
        quality.read_answers(file, 96)


# The report


def answers_of(quality, asked, texts, max_tokens=96, end="stop"):
    """The methods' texts for every question."""
    return {
        (question.text, method): quality.Answer(
            question.text, method, max_tokens, texts.get(method, "A"), end, 10, 2
        )
        for question in asked
        for method in quality.METHODS
    }


def rows(quality, asked, answers):
    lines = quality.report(asked, answers).splitlines()
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line}


def test_the_report_of_a_worked_case(quality, asked):
    answers = answers_of(quality, asked, {"base": "A. a\nB. b", "blendin": "(D)"})
    table = rows(quality, asked, answers)
    assert table["4"] == "choices; always answering A, the letter named most, has 25% right"
    assert table["base"] == "0% 0% 0% to 49% 0% 20% 10 none"
    assert table["blendin"].startswith("100% 25% 5% to 70% 0% 20% 10 +1 −0 +25 (")
    assert table["blendin"].endswith(" D 100%")
    assert table["nudging"].endswith(" A 100%")


def test_what_is_gained_and_lost_is_counted_by_question(quality, asked):
    answers = answers_of(quality, asked, {"base": "A", "aligned": "B"})
    assert " +1 −1 +0 (" in rows(quality, asked, answers)["aligned"]


def test_the_favourite_is_the_letter_named_most(quality, asked):
    answers = answers_of(quality, asked, {})
    for question, text in zip(asked, ("D", "B", "B", "none of them"), strict=True):
        answers[question.text, "blendin"] = quality.Answer(
            question.text, "blendin", 96, text, "stop", 10, 2
        )
    table = rows(quality, asked, answers)
    assert table["blendin"].startswith("75% 25%")
    assert table["blendin"].endswith(" B 67%")


def test_cut_answers_are_counted(quality):
    sums = [quality.Question("sums", "How many?", "9")]
    texts = dict.fromkeys(quality.METHODS, "It is 9")
    whole, cut = (answers_of(quality, sums, texts, end=end) for end in ("stop", "length"))
    assert rows(quality, sums, whole)["base"] == "100% 100% 21% to 100% 0% 20% 10"
    assert rows(quality, sums, cut)["base"] == "0% 0% 0% to 79% 100% 20% 10"


def test_only_the_asked_questions_with_the_same_limit_are_reported(quality, asked, tmp_path):
    file = tmp_path / "answers.jsonl"
    quality.ask(asked, file, 96, Scribe(quality, "A"))
    quality.ask(asked[:2], file, 40, Scribe(quality, "B"))
    table = rows(quality, asked[:3], quality.read_answers(file, 40))
    assert table["2"].startswith("choices; always answering B")
    assert table["base"].startswith("100% 50%")
    assert rows(quality, asked[:1], quality.read_answers(file, 96))["1"].endswith("has 100% right")


def test_a_question_that_a_method_still_lacks_is_left_out(quality, asked):
    answers = answers_of(quality, asked, {})
    del answers[asked[0].text, "confidence-bet"]
    assert "3" in rows(quality, asked, answers)


def test_a_set_without_answers_is_left_out(quality, asked):
    sums = [quality.Question("sums", "How many?", "9")]
    answers = answers_of(quality, asked, {})
    assert "sums" not in quality.report([*sums, *asked], answers)
    assert quality.report(asked, {}) == quality.report([], answers) == "nothing is answered yet"


def test_a_set_in_which_no_letter_is_named_has_a_report(quality, asked):
    answers = answers_of(quality, asked, dict.fromkeys(quality.METHODS, "rock"))
    assert rows(quality, asked, answers)["4"] == "choices; no letter is named"


def test_an_answer_is_kept_as_one_line_of_json(quality, asked, tmp_path):
    file = tmp_path / "answers.jsonl"
    quality.ask(asked[:1], file, 96, Scribe(quality, "A\nλ"))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["method"] for line in lines] == list(quality.METHODS)
    assert {line["text"] for line in lines} == {"A\nλ"}
