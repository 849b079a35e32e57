"""A method turned down, or with tempered models: the oracle's tokens, drafted, batched, traced."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from blendin_mlx.answer_statistics import describe_method
from blendin_mlx.batch.batch_decoder import BatchDecoder
from blendin_mlx.batch.batch_generation import BatchPrompt, batch_stream
from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.methods import make_method
from blendin_mlx.decoding.answer_options import AnswerOptions
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.generation import generate, stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_mlx.scoring.score import score
from blendin_mlx.step import Step
from blendin_mlx.trace.records import TraceWriter
from blendin_mlx.trace.verify import verify_trace
from oracle import Oracle, assert_follows
from small_pairs import small_pair

METHOD = make_method("blendin", tau=0.9)
TURNED = pytest.mark.parametrize(
    "turned",
    [Dialled(METHOD, 0.7, 1.8), Dialled(METHOD, temper=0.6), Dialled(METHOD, 0.8, 0.5, 1.7)],
    ids=["guide", "both", "all three"],
)
BOTH = pytest.mark.parametrize("tokenizers", [1, 2])


def prompt_of(pair: Pair) -> PairPrompt:
    """The oracle knows no text, so nothing but STOP and the limit ends an answer."""
    return replace(build_prompt(pair, "Name a colour."), stops=())


def steps_of(pair: Pair, method: Any, **options: Any) -> list[Step]:
    """The steps of an answer of up to 40 tokens."""
    responses = stream_generate(pair, prompt_of(pair), method=method, max_tokens=40, **options)
    return [piece.step for one in responses for piece in one.pieces]


@BOTH
@TURNED
def test_it_is_the_oracles(tokenizers: int, turned: Dialled) -> None:
    pair, prompt = small_pair(tokenizers), prompt_of(small_pair(tokenizers))
    oracle = Oracle(pair, "blendin", tau=0.9)
    oracle.dial, oracle.guide_temp, oracle.temper = turned.dial, turned.guide_temp, turned.temper
    base, aligned = list(prompt.base.ids), list(prompt.aligned.ids)
    assert assert_follows(steps_of(pair, turned), oracle.decode(base, aligned, 40)) > 5
    ids = pair.base.vocabulary.encode("The sea is wide.")
    found = score(pair, prompt, ids, method=turned, complete=False).log_probs
    assert found == pytest.approx(oracle.score(base, aligned, ids), abs=2e-3)
    plain = score(pair, prompt, ids, method=METHOD, complete=False).log_probs
    assert found != pytest.approx(plain, abs=1e-2)


@BOTH
@TURNED
@pytest.mark.parametrize("draft", ["guide", "lookup"])
def test_drafts_change_nothing(tokenizers: int, turned: Dialled, draft: Any) -> None:
    pair = small_pair(tokenizers)
    alone = steps_of(pair, turned)
    drafted = steps_of(pair, turned, draft=Drafter(draft, 4))
    assert [step.id for step in drafted] == [step.id for step in alone]
    assert any(step.is_intervention for step in alone)


@TURNED
def test_a_trace_of_it_is_verified(turned: Dialled) -> None:
    pair, file = small_pair(2), io.StringIO()
    writer = TraceWriter(file, pair)
    writer.run(prompt_of(pair), {**describe_method(turned), "stop_policy": "either"})
    responses = stream_generate(pair, prompt_of(pair), method=turned, max_tokens=20)
    for response in responses:
        for piece in response.pieces:
            writer.step(piece)
    writer.end(response.statistics.as_json())
    records = [json.loads(line) for line in file.getvalue().splitlines()]
    assert verify_trace(pair, records) is None
    for setting in ("dial", "guide_temp", "temper"):
        if getattr(turned, setting) == 1.0:
            continue
        assert verify_trace(pair, [{**records[0], setting: 1.0}, *records[1:]]) is not None


@TURNED
@BOTH
def test_it_is_the_same_beside_other_answers(tokenizers: int, turned: Dialled) -> None:
    pair = small_pair(tokenizers)
    methods = [turned, METHOD, turned]
    prompts = [BatchPrompt(prompt_of(pair), AnswerOptions(one, max_tokens=12)) for one in methods]
    texts = ["", "", ""]
    for index, outcome in batch_stream(BatchDecoder(pair), prompts, size=3):
        assert not isinstance(outcome, Exception)
        texts[index] += outcome.text
    alone = [generate(pair, prompt_of(pair), method=one, max_tokens=12) for one in methods]
    assert texts == alone


def test_a_temperature_of_one_is_none() -> None:
    pair = small_pair(2)
    whole = Dialled(METHOD, 1.0, 1.0, 1.0)
    assert steps_of(pair, whole) == steps_of(pair, METHOD)


@pytest.mark.parametrize("name", ["base", "aligned"])
def test_one_model_alone_is_scored_at_its_temperature(name: str) -> None:
    pair = small_pair(2)
    prompt, oracle = prompt_of(pair), Oracle(pair, name)
    oracle.temper = 0.5
    text = "The sea is wide."
    ids = oracle.encode(pair.aligned if name == "aligned" else pair.base, text)
    tempered = Dialled(make_method(name), temper=0.5)
    found = score(pair, prompt, text, method=tempered, complete=False)
    assert found.token_ids == tuple(ids)
    expected = oracle.score(list(prompt.base.ids), list(prompt.aligned.ids), ids)
    assert found.log_probs == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", ["guide_temp", "temper"])
@pytest.mark.parametrize("temp", [0.0, -1.0, 101.0, float("nan")])
def test_out_of_range(name: str, temp: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be between 0\.01 and 100"):
        Dialled(make_method("nudging"), **{name: temp})


def test_both_temperatures_of_the_guide_together_have_the_range_of_one() -> None:
    with pytest.raises(ValueError, match=r"guide_temp · temper must be between 0\.01 and 100"):
        Dialled(make_method("nudging"), guide_temp=20, temper=20)
