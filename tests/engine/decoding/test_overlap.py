"""The next pass of the base begun before its token is known, as on a GPU: the same answers."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_lm.sample_utils import make_sampler

from blendin_mlx.backend.mlx import mx
from blendin_mlx.decoding import decoder
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import build_prompt
from blendin_mlx.reading.context import Context
from scripted import STOP, always, answer, assert_holds, says, scripted_model, scripted_pair, writes
from tiny import tiny_model

BASE = writes("The", " sea", " is", " wide", "\n\n", "Yes", " deep")
GUIDE = says({"The": {" sky": 0.9}}, otherwise={" blue": 0.6, STOP: 0.2})
UNSURE = says(
    {"": {"The": 0.9}, "The": {" sea": 0.3}, "The sky": {" is": 0.9}, "The sky is": {" wide": 0.3}},
    otherwise={STOP: 0.9},
)


@pytest.fixture
def overlapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a GPU."""
    monkeypatch.setattr(decoder, "is_cpu", lambda: False)


@pytest.mark.parametrize("policy", ["blend", "base", "either", "guide"])
@pytest.mark.parametrize("script", [BASE, UNSURE], ids=["sure", "unsure"])
@pytest.mark.parametrize("tokenizers", [1, 2])
def test_steps_and_counts_are_those_without(
    monkeypatch: pytest.MonkeyPatch, policy: Any, script: Any, tokenizers: int
) -> None:
    found = []
    for cpu in (True, False):
        monkeypatch.setattr(decoder, "is_cpu", lambda cpu=cpu: cpu)
        pair = scripted_pair(script, GUIDE, tokenizers=tokenizers)
        cache = make_prompt_cache(pair)
        prompt = build_prompt(pair, "Hi")
        got = answer(pair, prompt, prompt_cache=cache, stop_policy=policy)
        assert (
            cache.base.tokens
            == [*prompt.base.ids, *got.statistics.token_ids][: len(cache.base.tokens)]
        )
        assert_holds(cache.base, cache.base.tokens)
        found.append((got.text, got.steps, got.finish_reason, got.statistics.base.passes))
    assert found[0] == found[1]


@pytest.mark.usefixtures("overlapped")
def test_a_pass_for_a_token_that_did_not_follow_is_thrown_away() -> None:
    pair = scripted_pair(UNSURE, GUIDE)
    got = answer(pair)
    decoded = len(pair.base.network.calls) - 1  # the first call reads the prompt
    assert got.statistics.overrides > 0
    assert decoded > got.statistics.base.passes


@pytest.mark.usefixtures("overlapped")
def test_no_pass_is_begun_that_no_token_can_need() -> None:
    pair = scripted_pair(BASE, always({" blue": 0.9}))
    answer(pair, method="base", max_tokens=3)
    assert pair.base.network.calls[1:] == [1, 1, 1]


def test_a_seed_gives_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for cpu in (True, False):
        monkeypatch.setattr(decoder, "is_cpu", lambda cpu=cpu: cpu)
        mx.random.seed(5)
        pair = scripted_pair(always({" sea": 0.3}), always({" sky": 0.3}))
        texts.append(answer(pair, sampler=make_sampler(temp=1.0), max_tokens=20).text)
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("overlapped")
@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_answer_left_half_way_leaves_usable_caches(after: int) -> None:
    pair = scripted_pair(BASE, GUIDE)
    prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
    asked = iter(range(100))
    cut = answer(pair, prompt, prompt_cache=cache, should_stop=lambda: next(asked) > after)
    assert cut.finish_reason == "interrupted"
    assert_holds(cache.base, cache.base.tokens)
    assert answer(pair, prompt, prompt_cache=cache).text == answer(pair, prompt).text


@pytest.mark.parametrize("next_token", ["same", "other", "none"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "mamba2"])
def test_a_context_says_the_same_whatever_followed(architecture: str, next_token: str) -> None:
    tokenizer = scripted_model(BASE, "any").tokenizer
    model = tiny_model(tokenizer, architecture)
    context = Context(model)
    top = context.read([5, 6, 7]).argmax(axis=-1)
    context.begin(top)
    begun: Any = top.item()
    follows = {"same": [begun], "other": [begun + 1], "none": []}[next_token]
    tokens = [5, 6, 7, *follows]
    expected = Context(model).read(tokens)
    assert mx.allclose(context.after(tokens), expected, atol=1e-4)
    assert context.tokens == tokens
    assert mx.allclose(context.after([*tokens, 9]), Context(model).read([*tokens, 9]), atol=1e-4)
