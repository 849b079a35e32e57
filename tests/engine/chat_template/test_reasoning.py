"""Thinking is left out of what both models read of earlier answers, and known while it streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.chat_template.reasoning import ReasoningSplitter, without_reasoning
from blendin_mlx.model import Pair
from blendin_mlx.prompts import build_prompt
from scripted import scripted_model, writes

PIECES = ("<think>", "</think>", "<", "think>", "</", "a", "\n", " ", "<<think>", "é")
SPOKEN = [
    ("", ""),
    ("Yes.", "Yes."),
    ("<think>\nHm.\n</think>\n\nYes.", "Yes."),
    ("Hm.\n</think>\n\nYes.", "Yes."),
    ("Well. <think>Hm.</think> Yes.", "Well. Yes."),
    ("<think>a</think>b<think>c</think>d", "bd"),
    ("<think>a<think>b</think>c", "<think>ac"),
    ("<think>Hm.", "<think>Hm."),
    ("<think>Hm.</think>", ""),
    ("<think></think><think>", "<think>"),
]


@pytest.mark.parametrize(("text", "spoken"), SPOKEN)
def test_thinking_is_taken_out_of_an_answer(text: str, spoken: str) -> None:
    assert without_reasoning(text) == spoken


def test_many_tags_take_no_longer_than_their_number() -> None:
    assert without_reasoning("<think>" * 100_000 + "</think>") == "<think>" * 99_999


@pytest.mark.parametrize("form", ["query", "transcript", "plain", "chat"])
def test_both_models_read_the_same_conversation(form: str) -> None:
    pair = Pair(scripted_model(writes(), "base"), scripted_model(writes(), "guide"))

    def read(answer: str, asked: str = "Why?") -> object:
        answered = {"role": "assistant", "content": answer}
        turns = [{"role": "user", "content": asked}, answered, {"role": "user", "content": "So?"}]
        return build_prompt(pair, turns, base_template=form)

    assert read("<think>\nHm.\n</think>\n\nYes.") == read("Yes.")
    tagged = read("Yes.", "<think>a</think>")  # what a user writes is what the user says
    assert "<think>a</think>" in tagged.base.text  # type: ignore[attr-defined]
    assert "<think>a</think>" in tagged.aligned.text  # type: ignore[attr-defined]


def split(parts: list[str], thinking: bool = False) -> list[tuple[str, bool]]:
    splitter = ReasoningSplitter(thinking)
    told = [part for text in parts for part in splitter.feed(text)] + splitter.end()
    assert all(text for text, _ in told)
    return [(char, kind) for text, kind in told for char in text]


@given(st.lists(st.sampled_from(PIECES)), st.booleans())
def test_any_split_of_an_answer_is_divided_alike(parts: list[str], thinking: bool) -> None:
    text = "".join(parts)
    told = split(parts, thinking)
    assert "".join(char for char, _ in told) == text
    assert told == split([text], thinking)
    assert told == split(list(text), thinking)


@pytest.mark.parametrize(
    ("text", "begun", "spoken"),
    [
        ("<think>Hm.</think> Yes", False, " Yes"),
        ("a<think>b</think>c<think>d", False, "ac"),
        ("Hm.</think>Yes</think>", True, "Yes</think>"),
        ("<thin", False, "<thin"),
        ("</think>", False, "</think>"),
    ],
)
def test_what_is_said_is_known_while_it_streams(text: str, begun: bool, spoken: str) -> None:
    assert "".join(char for char, thinking in split([text], begun) if not thinking) == spoken


def test_nothing_is_held_back_but_what_may_begin_a_tag() -> None:
    splitter = ReasoningSplitter()
    assert splitter.feed("a <") == [("a ", False)]
    assert splitter.feed("b") == [("<b", False)]
    assert splitter.feed("<think>c</th") == [("<think>c", True)]
