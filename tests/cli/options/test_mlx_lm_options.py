"""Options with mlx-lm's names do what mlx-lm does: the base alone gives the same ids."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from mlx_lm import load
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from blendin_mlx.backend.mlx import mx

MOST = 24


@pytest.fixture(scope="module")
def base(tiny: tuple[str, ...]) -> tuple[Any, set[int]]:
    """The base as mlx-lm loads it, and the ids that end its answers."""
    model, tokenizer, *_ = load(tiny[1])
    return model, set(tokenizer.eos_token_ids)


def told(run: Any, tiny: tuple[str, ...], folder: Path, *options: object) -> tuple[Any, Any]:
    """What the command answers, and the ids that its base read."""
    trace = folder / "run.jsonl"
    result = run("generate", *tiny, "--json", "-qm", MOST, *options, "--trace", trace, "the cat")
    assert result.code == 0, result.err
    begun = json.loads(trace.read_text().splitlines()[0])
    return json.loads(result.text), begun["base_prompt"]["ids"]


def by_mlx_lm(
    model: Any, prompt: list[int], stops: set[int], penalties: dict[str, Any], **sampling: Any
) -> list[int]:
    """Ids of mlx-lm, up to the end of the answer."""
    seed = sampling.pop("seed", None)
    if seed is not None:
        mx.random.seed(seed)
    options = {
        "sampler": make_sampler(**sampling),
        "logits_processors": make_logits_processors(**penalties),
    }
    made = generate_step(mx.array(prompt), model, max_tokens=MOST, **options)
    return list(itertools.takewhile(lambda token: token not in stops, (token for token, _ in made)))


def as_options(values: dict[str, Any]) -> list[str]:
    return [
        part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", str(value))
    ]


PENALTIES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 0},
    {"repetition_penalty": 1},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 3.0},
    {"repetition_penalty": 0.5},
    {"repetition_penalty": 3.0, "repetition_context_size": 2},
    {"repetition_penalty": 3.0, "repetition_context_size": 200},
    {"repetition_penalty": 3.0, "repetition_context_size": 2**31 - 1},
]
SAMPLING: list[dict[str, Any]] = [
    {},
    {"temp": 0.7, "seed": 0},
    {"temp": 3.0, "seed": 1},
    {"temp": 3.0, "seed": 2, "top_p": 0.6},
    {"temp": 3.0, "seed": 3, "top_p": 1.0},
    {"temp": 3.0, "seed": 4, "min_p": 0.2},
    {"temp": 3.0, "seed": 5, "top_k": 4},
    {"temp": 3.0, "seed": 6, "top_k": 9, "top_p": 0.8, "min_p": 0.05},
]


CASES = [
    *((penalties, {}) for penalties in PENALTIES),
    *(({}, sampling) for sampling in SAMPLING),
    *(({"repetition_penalty": 1.3}, sampling) for sampling in SAMPLING),
]


@pytest.mark.parametrize(("penalties", "sampling"), CASES, ids=str)
def test_the_base_alone_gives_mlx_lms_ids(run, tiny, base, tmp_path, penalties, sampling):
    options = as_options({**penalties, **sampling})
    answer, prompt = told(run, tiny, tmp_path, "--method", "base", *options)
    model, stops = base
    expected = by_mlx_lm(model, prompt, stops, penalties, **sampling)
    assert [token for token in answer["token_ids"] if token not in stops] == expected
    assert len(expected) > 1


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
def test_a_blend_without_the_guide_s_weight_gives_them_too(run, tiny, base, tmp_path, penalties):
    blend = ("--method", "fixed", "--alpha", 0, "--tau", 1, "--stop-policy", "blend")
    answer, prompt = told(run, tiny, tmp_path, *blend, *as_options(penalties))
    model, stops = base
    assert answer["token_ids"] == by_mlx_lm(model, prompt, stops, penalties)
    assert answer["blend"]["interventions"] > 1


def test_a_repetition_penalty_changes_what_a_sure_base_writes(run, tiny, tmp_path):
    answers = [
        told(run, tiny, tmp_path, "--method", "base", *options)[0]["token_ids"]
        for options in ((), ("--repetition-penalty", 1.3))
    ]
    assert answers[0] != answers[1]


def test_a_repetition_penalty_weighs_on_the_blend(run, tiny, tmp_path):
    options = ("--tau", 1, "--alpha", 0.5, "--method", "fixed", "--stop-policy", "blend")
    penalty = ("--repetition-penalty", 50, "--repetition-context-size", 500)
    free, prompt = told(run, tiny, tmp_path, *options)
    held, _ = told(run, tiny, tmp_path, *options, *penalty)
    assert len(set(free["token_ids"])) < MOST
    assert len(set(held["token_ids"]) - set(prompt)) == MOST


@pytest.mark.parametrize("top_k", [300, 301, 2**53])
def test_top_k_at_or_above_the_vocabulary_is_no_limit(run, tiny, tmp_path, top_k):
    drawn = ("--method", "base", "--temp", 2, "--seed", 7)
    free, _ = told(run, tiny, tmp_path, *drawn)
    held, _ = told(run, tiny, tmp_path, *drawn, "--top-k", top_k)
    assert held["token_ids"] == free["token_ids"]


def test_a_penalty_near_0_writes_text_all_the_same(run, tiny, tmp_path):
    answers = [
        told(run, tiny, tmp_path, "--method", "base", "--repetition-penalty", penalty)[0]
        for penalty in (1e-6, 1e-300)
    ]
    assert answers[0]["token_ids"] == answers[1]["token_ids"]
    assert answers[0]["text"].strip()


@pytest.mark.parametrize("temp", [1e-9, 1e-40, 1e-300])
def test_a_temperature_near_0_takes_the_likeliest_token(run, tiny, tmp_path, temp):
    greedy, _ = told(run, tiny, tmp_path, "--method", "base")
    cold, _ = told(run, tiny, tmp_path, "--method", "base", "--temp", temp)
    assert cold["token_ids"] == greedy["token_ids"]
