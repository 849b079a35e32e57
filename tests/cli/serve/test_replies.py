"""What is sent for an answer: thinking apart, tokens as text and bytes, numbers that JSON has."""

from __future__ import annotations

import json
import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.serve.parts import Part, ShownToken, TokenProb, joined, log_of
from blendin_cli.serve.replies import ChatChoice, CompletionChoice, Thinking, spelled, usage_of

PIECES = st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "\n", "<", "k>", "b"]))


@given(PIECES, st.booleans(), st.data())
def test_thinking_is_divided_alike_however_the_text_is_split(pieces, opened, data):
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    bounds = [0, *cuts, len(text)]
    parts = [text[a:b] for a, b in pairwise(bounds)]
    assert divided(parts, opened) == divided([text], opened)


def divided(parts, opened):
    thinking = Thinking(opened)
    fed = [*map(thinking.feed, parts), thinking.end()]
    return "".join(reasoning for reasoning, _ in fed), "".join(content for _, content in fed)


def test_thinking_leaves_its_tags_and_the_space_after_it():
    assert divided(["<think>\nHm.\n</think>\n\n", "\n Yes. "], False) == ("\nHm.\n", "Yes. ")
    assert divided(["Hm.</think>Yes."], True) == ("Hm.", "Yes.")
    assert divided(["  Yes <th", "ere>"], False) == ("", "  Yes <there>")


@given(st.floats(0, 1))
def test_every_logarithm_fits_in_json(probability):
    assert json.loads(json.dumps(log_of(probability), allow_nan=False)) <= 0
    if probability > 1e-300:
        assert math.exp(log_of(probability)) == math.exp(math.log(probability))


@given(st.binary(max_size=4))
def test_bytes_of_half_a_character_are_told_apart(written):
    shown = spelled(written)
    other = spelled(written + b"\xe2")
    assert shown != other
    assert shown == written.decode() if not shown.startswith("bytes:") else "\\x" in shown


def test_half_a_character_has_its_bytes_in_a_chat():
    half = ShownToken(TokenProb(b"\xe2\x98", -1.0), ())
    choice = ChatChoice(0, logprobs=True, thinking=False).piece(Part("", (half,), ()))
    (token,) = choice["logprobs"]["content"]
    assert (token["token"], token["bytes"]) == ("�", [0xE2, 0x98])


def test_offsets_go_on_from_chunk_to_chunk():
    writer = CompletionChoice(0, logprobs=True)
    parts = [
        Part(text, (ShownToken(TokenProb(text.encode(), None), ()),), ()) for text in ("ab", "c")
    ]
    offsets = [writer.piece(part)["logprobs"]["text_offset"] for part in parts]
    assert offsets == [[0], [2]]
    whole = CompletionChoice(0, logprobs=True).whole(joined(parts))
    assert whole["logprobs"]["text_offset"] == [0, 2]
    assert whole["logprobs"]["token_logprobs"] == [None, None]


def test_the_tokens_of_a_prompt_count_once_for_all_its_answers():
    lasts = [Part("", (), (), "stop", (read, 2)) for read in (5, 5, 7, 7)]
    assert usage_of(lasts, prompts=2) == {
        "prompt_tokens": 12,
        "completion_tokens": 8,
        "total_tokens": 20,
    }
