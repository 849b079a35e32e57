"""Chat templates that loop or fill the memory are broken off, and the message names the model."""

from __future__ import annotations

import resource
import sys

import pytest

from blendin_mlx import rendering
from blendin_mlx.errors import PairError
from blendin_mlx.prompts import build_prompt
from blendin_models import load_pair
from tiny_folders import write_model

LOOP = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
DOUBLING = (
    "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}"
)


@pytest.fixture
def pair(tmp_path):
    base, aligned = (
        str(write_model(tmp_path / name, n)) for n, name in enumerate(("base", "aligned"))
    )
    return load_pair(base=base, aligned=aligned)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LOOP, "it takes more than 2 s"),
        ("{{ 'x' * 3000000000 }}", "it takes too much memory"),
        (DOUBLING, "it takes too much memory"),
        ("{{ 'x' * 3000 }}", "it writes 3000 characters"),
    ],
)
def test_it_is_broken_off(pair, monkeypatch, template, reason):
    monkeypatch.setattr(rendering, "LONGEST_S", 2)
    monkeypatch.setattr(rendering, "MOST_CHARACTERS", 1000)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(PairError, match=reason) as raised:
        build_prompt(pair, "hi", aligned_template=template)
    assert "aligned" in str(raised.value)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert build_prompt(pair, "hi").aligned.ids  # and everything goes on


def test_a_tracer_that_was_there_is_there_again(pair):
    def tracer(*_):
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        build_prompt(pair, "hi")
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_looking_for_the_end_of_a_turn_is_bounded_too(pair, monkeypatch):
    monkeypatch.setattr(rendering, "LONGEST_S", 0.2)
    pair.aligned.tokenizer.chat_template = LOOP
    assert pair.aligned.stop_ids
