"""Where the base has begun to write a guide token, the guide goes on with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx import generate
from blendin_mlx.blend.methods import make_method
from blendin_mlx.model import Pair
from blendin_mlx.prompts import build_prompt
from blendin_mlx.reading.context import Context
from blendin_mlx.reading.guide import Guide
from blendin_mlx.scoring.score import score
from blendin_mlx.tokens.answer_text import AnswerText
from scripted import always, says, scripted_model, scripted_tokenizer, writes

BASE_WORDS = ("it", "ab", "cd")
GUIDE_WORDS = ("it", "'s", "'t", "'ll", "abc", "abcd", "bcd", "cda", "dd")
FREE = (*GUIDE_WORDS[4:], "a", "b", "c", "d")


def made_pair(guide: Any) -> Pair:
    """A guide with words that the base lacks."""
    return Pair(
        scripted_model(always({}), "base", tokenizer=scripted_tokenizer(BASE_WORDS)),
        scripted_model(guide, "guide", tokenizer=scripted_tokenizer(GUIDE_WORDS)),
    )


def advice_after(pair: Pair, ids: Sequence[int]) -> Any:
    """What the guide says after an answer."""
    answer = AnswerText(pair.base.vocabulary)
    for token in ids:
        answer.append(token)
    prompt = build_prompt(pair, "Go on.").aligned.ids
    return Guide(Context(pair.aligned), pair.projection(), prompt).advise(answer)


def test_the_guide_finishes_its_token() -> None:
    guide = says({"it": {"'s": 0.6, "'t": 0.2, "'": 0.1}, "it'": {"s": 0.001, "d": 0.9}})
    pair = made_pair(guide)
    ids = pair.base.vocabulary.encode("it'")
    said = advice_after(pair, ids)
    s, t, d = (pair.base.vocabulary.encode(one)[0] for one in "std")
    assert said.probs[0, s].item() == pytest.approx((0.6 + 0.1 * 0.001) / 0.9, rel=0.02)
    assert said.probs[0, t].item() == pytest.approx(0.2 / 0.9, rel=0.02)
    assert said.probs[0, d].item() == pytest.approx(0.1 * 0.9 / 0.9, rel=0.05)
    assert said.probs.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert said.own_probs.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert pair.aligned.vocabulary.token_bytes[said.token.item()] == b"'s"
    assert said.counterpart.item() == s
    assert said.confidence.item() == pytest.approx(0.6 / 0.9, rel=0.02)
    assert (said.exact_mass + said.prefix_mass).item() == pytest.approx(1.0, abs=1e-4)


def test_the_guide_alone_writes_its_own_words() -> None:
    guide = writes("it", "'s", "it", "'ll", "ab", sure=0.95)
    assert generate(made_pair(guide), "Go on.", method="aligned", max_tokens=20) == "it'sit'llab"


def test_a_finished_token_is_not_begun() -> None:
    pair = made_pair(always({}))
    answer = AnswerText(pair.base.vocabulary)
    reader = Guide(Context(pair.aligned), pair.projection(), [1])
    for token in pair.base.vocabulary.encode("it's"):
        answer.append(token)
    assert reader.begun(answer) == ()


@given(
    weights=st.lists(st.floats(0.01, 1.0), min_size=len(FREE), max_size=len(FREE)),
    word=st.sampled_from(GUIDE_WORDS[4:]),
)
def test_a_word_is_as_likely_as_all_the_ways_in_which_the_guide_writes_it(
    weights: list[float], word: str
) -> None:
    """The chain rule: no mass is lost or invented from token to token."""
    mass = {one: weight / sum(weights) for one, weight in zip(FREE, weights, strict=True)}
    pair = made_pair(always(mass))
    said = advice_after(pair, []).own_probs[0]
    ids = pair.base.vocabulary.encode(word)
    through = [advice_after(pair, ids[:n]).probs[0, one].item() for n, one in enumerate(ids)]
    assert math.prod(through) == pytest.approx(likelihood(pair, said.tolist(), ids), rel=1e-3)
    assert (
        math.prod(through) >= said[pair.aligned.vocabulary.by_bytes[word.encode()]].item() * 0.999
    )


def likelihood(pair: Pair, said: Sequence[float], ids: list[int]) -> float:
    """The mass of all sequences of guide tokens that begin with a text, one distribution always."""
    text = pair.base.vocabulary.bytes_of(ids)
    spelled = {
        token: pair.base.vocabulary.encode(one.decode())
        for token, one in enumerate(pair.aligned.vocabulary.token_bytes)
        if one and (text.startswith(one[:1]) or one[:1] in text) and is_ascii(one)
    }
    reached = [1.0] + [0.0] * len(ids)
    beyond = 0.0
    for place in range(len(ids)):
        for token, own in spelled.items():
            end = place + len(own)
            if end <= len(ids) and own == ids[place:end]:
                reached[end] += reached[place] * said[token]
            elif end > len(ids) and own[: len(ids) - place] == ids[place:]:
                beyond += reached[place] * said[token]
    return reached[-1] + beyond


def is_ascii(written: bytes) -> bool:
    return max(written) < 128


def test_scoring_is_what_decoding_says() -> None:
    guide = says({"it": {"'s": 0.6, "'ll": 0.3}, "it'": {"d": 0.9}, "it'l": {"d": 0.9}})
    pair = made_pair(guide)
    ids = pair.base.vocabulary.encode("it'lls")
    alone = [
        math.log(max(float(advice_after(pair, ids[:n]).probs[0, token].item()), 1e-37))
        for n, token in enumerate(ids)
    ]
    found = score(pair, "Go on.", ids, method=make_method("nudging", tau=1.0), complete=False)
    assert found.log_probs == pytest.approx(alone, abs=1e-4)
    assert np.exp(found.log_probs[2]) > 0.3
