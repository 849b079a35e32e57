"""The rules that score answers, the draw of the questions and the intervals keep their word."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from answer_rules import holds_fact, read_answer
from intervals import newcombe, wilson
from question_sets import (
    FACTS,
    Question,
    draw_choices,
    draw_facts,
    draw_sums,
    spread,
)

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
def test_a_choice_is_the_first_letter_unless_several_options_are_listed(text, named):
    assert read_answer("choices", "Which?\n" + LISTED, text) == named


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
def test_a_sum_is_the_last_number_unless_the_question_is_repeated(text, named):
    assert read_answer("sums", PUNCH, text) == named


def test_a_sum_that_the_limit_cut_has_no_answer_and_a_choice_has():
    assert read_answer("sums", PUNCH, "The answer is 18", is_cut=True) is None
    went_on = "The answer is 18.\nQuestion: What is"
    assert read_answer("sums", PUNCH, went_on, is_cut=True) == "18"
    assert read_answer("choices", "Which?", "B. metal, since", is_cut=True) == "B"


PERU = "What is the capital of Peru?"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Lima", "lima"),
        ("Lima.", "lima"),
        ("The capital of Peru is Lima. It is a large city.", "lima"),
        ("It is Lima\nQuestion: And of Chile?", "lima"),
        ("Lima, Cusco", "lima cusco"),
        ("Buenos Aires", "buenos aires"),
        ("The capital of Peru", None),
        ("Peru has many large cities by the sea and in the hills", None),
        ("\n", None),
    ],
)
def test_a_fact_is_what_the_first_sentence_adds_to_the_question(text, named):
    assert read_answer("facts", PERU, text) == named


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("It is the large city of Lima.", True),
        ("Limassol", False),
        ("It is large. Lima.", False),
        ("Cusco\nQuestion: Lima?", False),
        ("", False),
    ],
)
def test_a_fact_may_stand_among_other_words_of_the_first_sentence(text, is_there):
    assert holds_fact(PERU, ["lima"], text) is is_there


def test_every_fact_can_be_answered_with_each_of_its_spellings():
    lines = [json.loads(line) for line in FACTS.read_text("utf-8").splitlines()]
    assert len({line["question"] for line in lines}) == len(lines) == 100
    for question in draw_facts(lines, 100):
        (line,) = (line for line in lines if question.text.startswith(line["question"]))
        for answer in line["answers"]:
            assert read_answer("facts", question.text, f"{answer}.") in question.answers


# The questions


def openbook(count):
    options = ("rock", "metal", "food", "love")
    listed = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)]
    return [
        {"question": f"What {n}? ", "options": "\n".join(listed), "answer": listed[0]}
        for n in range(count)
    ]


def test_right_letters_are_spread_evenly_and_stay_with_their_text():
    drawn = draw_choices(openbook(50), 40)
    assert Counter(question.answers[0] for question in drawn) == dict.fromkeys("ABCD", 10)
    for question in drawn:
        lines = question.text.splitlines()
        assert [line[:3] for line in lines[1:5]] == ["A. ", "B. ", "C. ", "D. "]
        assert f"{question.answers[0]}. rock" in lines
        assert {line[3:] for line in lines[1:5]} == {"rock", "metal", "food", "love"}
    wrong = {tuple(line[3:] for line in question.text.splitlines()[1:5]) for question in drawn}
    assert len(wrong) > 8, "the wrong options are shuffled as well"


def test_the_draw_is_the_same_each_time_and_fewer_are_a_part_of_more():
    lines = openbook(500)
    assert draw_choices(lines, 40) == draw_choices(lines, 400)[:40]
    assert draw_choices(lines, 4) != draw_choices(lines[:4], 4)


@pytest.mark.parametrize("count", [-1, 6])
def test_a_number_of_questions_that_cannot_be_drawn_is_refused(count):
    with pytest.raises(SystemExit, match=f"{count} questions cannot be drawn; the set has 5"):
        draw_choices(openbook(5), count)


def test_no_question_may_be_drawn():
    assert draw_choices(openbook(5), 0) == draw_facts([], 0) == spread([], []) == []


def test_sums_have_one_number_as_answer():
    answers = ["9 apples", "1,5", "3/4", "yes", "2.50 dollars", "7 and 8"]
    lines = [{"passage": "So.", "question": f"{a}? ", "answer": a} for a in answers]
    drawn = draw_sums(lines, 2)
    assert sorted(question.answers for question in drawn) == [("2.5",), ("9",)]
    assert all(question.text.endswith("?\nAnswer with one number.") for question in drawn)


def test_both_sets_are_spread_over_the_whole():
    two = [Question("sums", f"s{n}", ("1",)) for n in range(2)]
    four = [Question("choices", f"c{n}", ("A",)) for n in range(4)]
    texts = [question.text for question in spread(two, four)]
    assert texts == ["c0", "s0", "c1", "c2", "s1", "c3"]
    assert spread([], four) == four


# The intervals


def test_wilson_by_hand():
    # 5 of 10: the middle is 1/2, the half 1.96 √(0.25/10 + 1.96²/400) / (1 + 1.96²/10) = 0.26341
    assert wilson(5, 10) == pytest.approx((0.5 - 0.26341, 0.5 + 0.26341), abs=1e-5)


def test_the_paired_interval_by_hand():
    # Both have the same 5 of 10 right: φ = (5 · 5 − 10/2) / √(5 · 5 · 5 · 5) = 0.8, so that the
    # halves of 0.26341 join to 0.26341 √(1 − 2 · 0.8 + 1) = 0.16660.
    assert newcombe(5, 0, 0, 5) == pytest.approx((-0.16660, 0.16660), abs=1e-5)


def test_the_paired_interval_of_an_uneven_table():
    # The published figures for the table 36, 12, 2, 0 (Newcombe 1998, method 10).
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    low, high = newcombe(36, 2, 12, 0)
    assert (-high, -low) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_the_paired_interval_without_any_right_answer_has_a_width():
    low, high = newcombe(0, 0, 0, 40)
    assert -0.1 < low < 0 < high < 0.1
