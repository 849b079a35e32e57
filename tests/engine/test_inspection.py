"""What is shown of a position is what decided there, and an answer goes on from a beginning."""

from __future__ import annotations

import pytest

from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.methods import make_method
from blendin_mlx.generation import generate, stream_generate
from blendin_mlx.inspection import begun, look_at
from blendin_mlx.prompts import build_prompt
from blendin_models import load_pair
from tiny_folders import write_model

TOKENS = 12


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    names = [str(write_model(folder / name, n)) for n, name in enumerate(("base", "aligned"), 1)]
    return load_pair(base=names[0], aligned=names[1])


TEMPERED = Dialled(make_method("blendin", tau=0.9), temper=0.5)


@pytest.mark.parametrize("name", ["blendin", "nudging", "base", "ensemble", TEMPERED])
def test_the_first_of_each_is_what_the_step_says(pair, name):
    method = make_method(name) if isinstance(name, str) else name
    prompt = build_prompt(pair, "hello")
    *_, last = stream_generate(pair, prompt, method=method, max_tokens=TOKENS)
    pieces = [
        p for r in stream_generate(pair, prompt, method=method, max_tokens=TOKENS) for p in r.pieces
    ]
    ids = last.statistics.token_ids
    assert len(pieces) == TOKENS
    for index, step in enumerate(piece.step for piece in pieces):
        position = look_at(pair, prompt, ids[:index], method)
        assert position.base[0].id == step.base.id
        assert position.base[0].prob == pytest.approx(step.base.prob, abs=1e-4)
        assert [c.prob for c in position.base] == sorted(
            (c.prob for c in position.base), reverse=True
        )
        if step.guidance is not None:
            assert position.unsure
            assert position.alpha == pytest.approx(step.guidance.alpha, abs=1e-4)
            assert position.aligned[0].id == step.guidance.top.id
            assert position.blended[0].id == step.id


def test_an_answer_goes_on_from_its_own_beginning(pair):
    prompt = build_prompt(pair, "hello")
    *_, last = stream_generate(pair, prompt, max_tokens=TOKENS)
    ids = last.statistics.token_ids
    rest = generate(pair, begun(pair, prompt, ids[:5]), max_tokens=TOKENS - 5)
    assert pair.base.vocabulary.bytes_of(ids[:5]).decode() + rest == last.statistics.text
