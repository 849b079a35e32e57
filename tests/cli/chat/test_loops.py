"""Loops of an answer are noticed; lists, code, songs and tables are not taken for loops."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.chat.loops import FEWEST, LONGEST, TIMES, is_looping

WORDS = "one two three four five six seven eight nine ten eleven".split()  # noqa: SIM905
CODE = sorted(Path(__file__).parents[3].glob("cli/**/*.py"))
units = st.text(min_size=2, max_size=60).filter(lambda t: len(set(filter(str.isalpha, t))) >= 2)


@given(st.text(), units, st.integers(0, 3), st.integers(0, 60))
def test_the_same_text_again_and_again_is_a_loop_wherever_it_is_cut(before, unit, more, cut):
    times = max(TIMES, -(-FEWEST // len(unit))) + more
    assert is_looping(before + unit * times + unit[: cut % len(unit)])


@given(st.permutations(WORDS))
def test_a_few_repetitions_are_no_loop(words):
    verse = f"{' '.join(words)}.\n"  # long enough, but for the number of times
    assert not is_looping(verse * (TIMES - 1))
    assert is_looping(verse * TIMES)


@given(st.text(st.characters(exclude_characters="\n"), max_size=40), st.integers(1, 300))
def test_a_numbered_list_of_the_same_words_is_no_loop(words, items):
    text = "".join(f"{n}. {words}\n" for n in range(items))
    assert not any(is_looping(text[:end]) for end in range(len(text) - 50, len(text)))


@given(st.text("-=|_.*# 0123456789,\n\t", max_size=20))
def test_rules_tables_and_numbers_are_no_loops(unit):
    assert not is_looping(unit * 500)


@pytest.mark.parametrize("file", CODE, ids=lambda file: file.stem)
def test_code_is_no_loop_at_any_place(file):
    text = file.read_text(encoding="utf-8")
    assert not any(is_looping(text[:end]) for end in range(0, len(text), 7))


def test_the_longest_repetition_is_noticed():
    unit = "".join(f"{n}, " for n in range(999)).replace("1", "one ")[: LONGEST - 1] + "."
    assert is_looping(unit * TIMES)
    assert not is_looping(f"{unit}.." * TIMES)
