"""A method turned down, with a tempered guide: the oracle's tokens, with drafts and without."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from blendin_mlx.answer_statistics import describe_method
from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.methods import make_method
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_mlx.scoring.score import score
from blendin_mlx.step import Step
from blendin_mlx.trace.records import TraceWriter
from blendin_mlx.trace.verify import verify_trace
from oracle import Oracle, assert_follows
from small_pairs import small_pair

TURNED = Dialled(make_method("blendin", tau=0.9), 0.7, 1.8)
BOTH = pytest.mark.parametrize("tokenizers", [1, 2])


def prompt_of(pair: Pair) -> PairPrompt:
    """The oracle knows no text, so nothing but STOP and the limit ends an answer."""
    return replace(build_prompt(pair, "Name a colour."), stops=())


def steps_of(pair: Pair, method: Any, **options: Any) -> list[Step]:
    """The steps of an answer of up to 40 tokens."""
    responses = stream_generate(pair, prompt_of(pair), method=method, max_tokens=40, **options)
    return [piece.step for one in responses for piece in one.pieces]


@BOTH
def test_it_is_the_oracles(tokenizers: int) -> None:
    pair, prompt = small_pair(tokenizers), prompt_of(small_pair(tokenizers))
    oracle = Oracle(pair, "blendin", tau=0.9)
    oracle.dial, oracle.guide_temp = TURNED.dial, TURNED.guide_temp
    base, aligned = list(prompt.base.ids), list(prompt.aligned.ids)
    assert assert_follows(steps_of(pair, TURNED), oracle.decode(base, aligned, 40)) > 5
    ids = pair.base.vocabulary.encode("The sea is wide.")
    found = score(pair, prompt, ids, method=TURNED, complete=False).log_probs
    assert found == pytest.approx(oracle.score(base, aligned, ids), abs=2e-3)
    plain = score(pair, prompt, ids, method=TURNED.method, complete=False).log_probs
    assert found != pytest.approx(plain, abs=1e-2)


@BOTH
@pytest.mark.parametrize("draft", ["guide", "lookup"])
def test_drafts_change_nothing(tokenizers: int, draft: Any) -> None:
    pair = small_pair(tokenizers)
    alone = steps_of(pair, TURNED)
    drafted = steps_of(pair, TURNED, draft=Drafter(draft, 4))
    assert [step.id for step in drafted] == [step.id for step in alone]
    assert any(step.is_intervention for step in alone)


def test_a_trace_of_it_is_verified() -> None:
    pair, file = small_pair(2), io.StringIO()
    writer = TraceWriter(file, pair)
    writer.run(prompt_of(pair), {**describe_method(TURNED), "stop_policy": "either"})
    responses = stream_generate(pair, prompt_of(pair), method=TURNED, max_tokens=20)
    for response in responses:
        for piece in response.pieces:
            writer.step(piece)
    writer.end(response.statistics.as_json())
    records = [json.loads(line) for line in file.getvalue().splitlines()]
    assert verify_trace(pair, records) is None
    for setting in ("dial", "guide_temp"):
        assert verify_trace(pair, [{**records[0], setting: 1.0}, *records[1:]]) is not None


def test_a_temperature_of_one_is_none() -> None:
    pair = small_pair(2)
    whole = Dialled(TURNED.method, 1.0, 1.0)
    assert steps_of(pair, whole) == steps_of(pair, TURNED.method)


@pytest.mark.parametrize("temp", [0.0, -1.0, 101.0, float("nan")])
def test_out_of_range(temp: float) -> None:
    with pytest.raises(ValueError, match=r"guide_temp must be between 0\.01 and 100"):
        Dialled(make_method("nudging"), 1.0, temp)
