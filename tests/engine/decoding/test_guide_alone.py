"""Where the guide decides, the base is not run, or nothing is drawn from it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from blendin_mlx.backend.mlx import mx
from blendin_mlx.batch.batch_decoder import BatchDecoder
from blendin_mlx.batch.batch_generation import BatchPrompt, batch_stream
from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.methods import make_method
from blendin_mlx.decoding.answer_options import AnswerOptions
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import build_prompt
from scripted import STOP, answer, says, scripted_pair, writes
from small_pairs import small_pair

BASE = writes("Yes", " wide", " deep", ".")
GUIDE = writes("The", " sky", " is", " blue", ".")


@pytest.mark.parametrize("policy", ["blend", "either", "guide"])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("draft", ["off", "auto"])
def test_the_guide_alone_runs_no_base(policy: Any, sampled: bool, draft: Any) -> None:
    pair = scripted_pair(BASE, GUIDE)
    sampler = make_sampler(temp=0.2) if sampled else None
    got = answer(pair, method="aligned", stop_policy=policy, sampler=sampler, draft=draft)
    assert (got.text, got.finish_reason) == ("The sky is blue.", "stop")
    assert pair.base.network.calls == []
    assert (got.statistics.base.passes, got.statistics.aligned.passes) == (0, 6)
    assert got.statistics.drafted == 0
    assert all(step.base is None and step.guidance is not None for step in got.steps)
    assert got.statistics.interventions == 6
    assert got.statistics.overrides is None  # nobody knows what the base would have written


def test_the_guide_alone_runs_no_base_among_others() -> None:
    pair = scripted_pair(BASE, GUIDE)
    batch = BatchDecoder(pair)
    tried = len(pair.base.network.calls)
    prompts = [BatchPrompt("Hi", AnswerOptions("aligned")) for _ in range(3)]
    texts = {0: "", 1: "", 2: ""}
    for index, outcome in batch_stream(batch, prompts):
        texts[index] += outcome.text
    assert set(texts.values()) == {"The sky is blue."}
    assert len(pair.base.network.calls) == tried


@pytest.mark.parametrize(
    "options",
    [
        {"stop_policy": "base"},
        {"logits_processors": make_logits_processors(repetition_penalty=1.1)},
        {"method": Dialled(make_method("aligned"), dial=0.5)},
        {"method": "nudging"},
    ],
    ids=["policy", "penalty", "dial", "method"],
)
def test_the_base_is_run_where_it_has_a_part(options: dict[str, Any]) -> None:
    got = answer(scripted_pair(BASE, GUIDE), **{"method": "aligned", **options})
    assert all(step.base is not None for step in got.steps)
    assert got.statistics.base.passes == len(got.steps)
    assert got.statistics.overrides is not None


def test_an_end_of_the_base_is_forced_on_the_guide_under_its_policy() -> None:
    got = answer(scripted_pair(writes("The", " sky"), GUIDE), method="aligned", stop_policy="base")
    assert (got.text, got.finish_reason) == ("The sky", "stop")


def test_an_end_of_the_guide_alone_is_taken_back_as_ever() -> None:
    """Under the policy `guide`, STOP is taken back where its probability is below a half."""
    unsure = says({"The": {STOP: 0.4, " sky": 0.3}, "The sky": {STOP: 0.9}}, {"The": 0.9})
    pair = scripted_pair(BASE, unsure)
    got = answer(pair, method="aligned", stop_policy="guide")
    assert (got.text, pair.base.network.calls) == ("The sky", [])
    assert got.steps[1].instead_of == pair.base.vocabulary.stop


@settings(max_examples=8)
@given(st.integers(1, 40))
def test_the_base_completes_characters_alone(length: int) -> None:
    """Random networks write half characters all the time; two tokenizers."""
    pair = small_pair(2)
    prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
    got = answer(pair, prompt, method="aligned", max_tokens=length, prompt_cache=cache)
    alone = [step for step in got.steps if step.base is None]
    assert all(step.source == "aligned" for step in alone)
    assert all(step.source == "base" for step in got.steps if step.base is not None)
    assert got.statistics.base.passes == len(got.steps) - len(alone)
    assert answer(pair, prompt, prompt_cache=cache).text == answer(pair, prompt).text


def drawn_by(pair: Pair, **options: Any) -> tuple[list[mx.array], Any]:
    """What a sampler drew in an answer, in order, and the answer."""
    sampler, drawn = make_sampler(temp=1.0, top_p=0.9), list[mx.array]()

    def draw(scores: mx.array) -> mx.array:
        drawn.append(sampler(scores))
        return drawn[-1]

    mx.random.seed(3)
    return drawn, answer(pair, sampler=draw, **options)


def is_computed(array: mx.array) -> bool:
    """Whether an array has its value: nothing is left of what it depends on."""
    graph = io.StringIO()
    mx.export_to_dot(graph, array)
    return "shape=rectangle" not in graph.getvalue()


@pytest.mark.parametrize("method", [make_method("fixed", tau=1.0), make_method("fixed", tau=0.3)])
def test_a_draw_from_the_base_is_computed_only_where_it_decides(method: Any) -> None:
    drawn, got = drawn_by(small_pair(), method=method, stop_policy="blend", max_tokens=12)
    expected = []
    for step in got.steps:  # one from the base, and one from the blend where that decides
        expected += [False, True] if step.is_intervention else [True]
    assert False in expected
    assert list(map(is_computed, drawn)) == expected


@pytest.mark.parametrize("method", ["aligned", "ensemble", "kad", "confidence-bet"])
def test_where_the_guide_is_always_asked_one_token_is_drawn(method: str) -> None:
    drawn, got = drawn_by(small_pair(), method=method, max_tokens=8)
    assert len(drawn) == len(got.steps)


@pytest.mark.parametrize("name", ["aligned", "ensemble", "confidence-bet", "proxy-tuning"])
@pytest.mark.parametrize("policy", ["blend", "either", "guide"])
def test_where_the_guide_is_always_asked_a_token_is_read_back_once(
    monkeypatch: pytest.MonkeyPatch, name: str, policy: Any
) -> None:
    from blendin_mlx.reading import requests

    reads = list[int]()
    read_back = requests.read_back
    monkeypatch.setattr(requests, "read_back", lambda rows: reads.append(1) or read_back(rows))
    got = answer(small_pair(), method=name, stop_policy=policy, max_tokens=9, draft=Drafter("off"))
    assert len(reads) == len(got.steps) == 9
