"""How long a context is, as configs say it, and as a user may."""

from __future__ import annotations

import pytest

from blendin_mlx.context_limit import context_limit
from blendin_mlx.model import LanguageModel, Pair

PLAIN = {"max_position_embeddings": 4096}


def scaled(kind: str, **more: object) -> dict[str, object]:
    return {**PLAIN, "rope_scaling": {"rope_type": kind, "factor": 8.0, **more}}


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({}, None),
        (PLAIN, 4096),
        ({"text_config": PLAIN, "max_position_embeddings": 9}, 4096),
        (scaled("linear"), 32768),
        (scaled("dynamic"), 32768),
        (scaled("yarn"), 32768),
        ({**PLAIN, "rope_scaling": {"type": "linear", "factor": 2}}, 8192),
        ({**PLAIN, "rope_parameters": {"rope_type": "yarn", "factor": 2.5}}, 10240),
        (scaled("yarn", original_max_position_embeddings=4096), 32768),  # as Qwen writes it
        (scaled("yarn", original_max_position_embeddings=512), 4096),  # as DeepSeek writes it
        (scaled("llama3", original_max_position_embeddings=512), 4096),
        (scaled("longrope", original_max_position_embeddings=512), 4096),
        ({**scaled("linear"), "model_type": "gemma3_text"}, 4096),
        (scaled("mrope"), 4096),
        ({**PLAIN, "rope_scaling": {"type": "linear", "factor": float("inf")}}, 4096),
        ({**PLAIN, "rope_scaling": {"type": "linear", "factor": "8"}}, 4096),
        ({**PLAIN, "rope_scaling": "yarn"}, 4096),
        ({**PLAIN, "rope_parameters": {"full_attention": {"factor": 8}}}, 4096),
    ],
)
def test_a_config_says_how_long_a_context_is(config, limit):
    assert context_limit(config) == limit
    assert LanguageModel(None, None, config).context_limit == limit


@pytest.mark.parametrize("wanted", [64, 10**6])
def test_a_wanted_limit_comes_first(wanted):
    assert context_limit(scaled("yarn"), wanted) == wanted
    assert context_limit({}, wanted) == wanted


def test_learned_positions_end_where_they_end():
    """There is no row of them beyond; it would be read out of bounds."""
    assert context_limit({"n_positions": 1024}, 2048) == 1024
    assert context_limit({"n_positions": 1024}, 64) == 64


def test_a_pair_is_limited_as_a_whole():
    pair = Pair(LanguageModel(None, None, PLAIN), LanguageModel(None, None, scaled("yarn")))
    pair.limit_context(100)
    assert (pair.base.context_limit, pair.aligned.context_limit) == (100, 100)
    pair.limit_context(None)
    assert (pair.base.context_limit, pair.aligned.context_limit) == (4096, 32768)
