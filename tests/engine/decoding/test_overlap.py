"""The next pass of the base begun before its token is known, as on a GPU: the same answers."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_lm.sample_utils import make_sampler

from blendin_mlx.backend.mlx import mx
from blendin_mlx.decoding import two_models
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.drafting.pass_costs import Costs
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

COSTS = Costs(base=((1, 1.0), (9, 2.6)), guide=1.0)


@pytest.fixture
def overlapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a GPU."""
    monkeypatch.setattr(two_models, "is_cpu", lambda: False)


@pytest.mark.parametrize("policy", ["blend", "base", "either", "guide"])
@pytest.mark.parametrize("script", [BASE, UNSURE], ids=["sure", "unsure"])
@pytest.mark.parametrize("tokenizers", [1, 2])
def test_steps_and_counts_are_those_without(
    monkeypatch: pytest.MonkeyPatch, policy: Any, script: Any, tokenizers: int
) -> None:
    found = []
    for cpu in (True, False):
        monkeypatch.setattr(two_models, "is_cpu", lambda cpu=cpu: cpu)
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


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose passes are begun early, by model, one by one."""
    names = list[str]()
    begin = Context.begin

    def noted(context: Context, token: mx.array) -> None:
        names.append(context.model.name)
        begin(context, token)

    monkeypatch.setattr(Context, "begin", noted)
    return names


@pytest.mark.usefixtures("overlapped")
@pytest.mark.parametrize("draft", ["auto", "lookup", "guide"])
def test_passes_overlap_where_drafting_does_not_pay(begun: list[str], draft: Any) -> None:
    pair = scripted_pair(always({" sea": 0.9}), always({" sea": 0.9}))
    dear = Drafter(draft, costs=Costs(base=((1, 1.0), (9, 9.0)), guide=1.0))
    got = answer(pair, max_tokens=30, draft=dear)
    assert len(begun) == 29  # every pass but the first
    assert pair.base.network.calls[1:] == 30 * [1]
    assert "does not pay" in (got.statistics.draft_off or "")
    assert got.text == 30 * " sea"


@pytest.mark.usefixtures("overlapped")
def test_passes_do_not_overlap_where_drafts_may_come(begun: list[str]) -> None:
    pair = scripted_pair(always({" sea": 0.9}), always({" sea": 0.9}))
    cheap = Drafter("lookup", costs=Costs(base=((1, 1.0), (9, 1.2)), guide=0.1))
    got = answer(pair, max_tokens=30, draft=cheap)
    assert (begun, got.statistics.drafted > 5) == ([], True)


@pytest.mark.usefixtures("overlapped")
def test_drafts_are_tried_again_while_passes_overlap(begun: list[str]) -> None:
    """One that failed at first pays later: `overlapped` positions count towards the next trial."""
    words = [" sea", " sky", " is", " wide", " deep", " blue", "The", "."]
    base = writes(*words, *(9 * words[::2] + 9 * words[1::2]), *(60 * [" sea"]))
    pair, drafter = scripted_pair(base, GUIDE), Drafter("lookup", costs=COSTS)
    drafter.records["lookup"].acceptance.value = 0.1
    got = answer(pair, method="base", max_tokens=128, draft=drafter)
    assert got.text == answer(pair, method="base", max_tokens=128).text
    assert got.statistics.accepted > 20
    assert len(begun) > 20


@pytest.mark.usefixtures("overlapped")
@pytest.mark.parametrize("name", ["aligned", "ensemble", "confidence-bet"])
def test_both_models_begin_early_where_both_are_always_asked(begun: list[str], name: str) -> None:
    pair = scripted_pair(always({" sea": 0.9}), always({" sea": 0.6}))
    got = answer(pair, method=name, max_tokens=10)
    runs = {"scripted guide"} if name == "aligned" else {"scripted base", "scripted guide"}
    assert set(begun) == runs
    assert len(begun) == 9 * len(runs)
    assert pair.aligned.network.calls[1:] == 10 * [1]
    assert got.statistics.aligned.passes == 10


@pytest.mark.usefixtures("overlapped")
@pytest.mark.parametrize("name", ["aligned", "ensemble"])
@pytest.mark.parametrize("tokenizers", [1, 2])
def test_asked_always_they_write_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, tokenizers: int
) -> None:
    found = []
    for cpu in (True, False):
        monkeypatch.setattr(two_models, "is_cpu", lambda cpu=cpu: cpu)
        pair = scripted_pair(BASE, GUIDE, tokenizers=tokenizers)
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        got = answer(pair, prompt, method=name, prompt_cache=cache, max_tokens=12)
        assert answer(pair, prompt, prompt_cache=cache).text == answer(pair, prompt).text
        found.append((got.text, got.steps, got.statistics.aligned.passes))
    assert found[0] == found[1]


@pytest.mark.usefixtures("overlapped")
def test_no_pass_is_begun_that_no_token_can_need() -> None:
    pair = scripted_pair(BASE, always({" blue": 0.9}))
    answer(pair, method="base", max_tokens=3)
    assert pair.base.network.calls[1:] == [1, 1, 1]


def test_a_seed_gives_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for cpu in (True, False):
        monkeypatch.setattr(two_models, "is_cpu", lambda cpu=cpu: cpu)
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
