"""Vocabularies are compared by bytes: the same, the same but padded, or different."""

from __future__ import annotations

import json

import pytest

from blendin_models.pair import PairSpec, check_pair, open_pair, relation
from tiny_folders import write_model


@pytest.fixture
def folders(tmp_path):
    return write_model(tmp_path / "base", 1), write_model(tmp_path / "aligned", 2)


def related(base, aligned):
    return relation(open_pair(check_pair(PairSpec(base=str(base), aligned=str(aligned)))))


def test_one_tokenizer(folders):
    assert (related(*folders).kind, related(*folders).shared) == ("same", 1.0)


def test_padding_does_not_make_vocabularies_different(folders):
    from blendin_mlx.backend.mlx import mx

    base, aligned = folders
    weights = mx.load(str(aligned / "model.safetensors"))
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        weights[name] = mx.pad(weights[name], [(0, 20), (0, 0)])  # type: ignore[call-overload, index]
    mx.save_safetensors(str(aligned / "model.safetensors"), weights)
    config = json.loads((aligned / "config.json").read_text())
    (aligned / "config.json").write_text(json.dumps({**config, "vocab_size": 320}))
    assert related(base, aligned).kind == "padded"


def test_tokens_that_both_have_are_counted(folders):
    base, aligned = folders
    file = aligned / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    one, other = (token for token in ("a", "b"))
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(content))
    found = related(base, aligned)
    assert (found.kind, found.shared) == ("different", 1.0)
