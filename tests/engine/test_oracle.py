"""The engine produces the oracle's tokens: tiny models with real tokenizers, and the demo pair."""

from __future__ import annotations

from typing import Any

import pytest

from blendin_mlx.blend.methods import make_method
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompts import build_prompt
from blendin_mlx.step import Step
from oracle import Oracle, assert_follows

SHORT = "How do I boil an egg?"
READ_AHEAD = ("Schreibe einen Satz über das Meer.",)
FAMILIES = (("llama3_1", "llama3_1"), ("gemma3", "llama3_1"))


def steps_of(pair: Pair, prompt: Any, max_tokens: int, **options: Any) -> list[Step]:
    """All steps of an answer, stop strings aside."""
    responses = stream_generate(pair, prompt, max_tokens=max_tokens, **options)
    return [piece.step for response in responses for piece in response.pieces]


def follow(
    pair: Pair, question: str, max_tokens: int, name: str, ahead: bool = False, **options: Any
) -> int:
    """Compare one answer with the oracle's; ``ahead`` lets it read the answer in one pass."""
    prompt = build_prompt(pair, question, base_template="chat" if name == "chat" else "query")
    method = make_method(name, **options)
    steps = steps_of(pair, without_stops(prompt), max_tokens, method=method)
    oracle = Oracle(pair, name, **options)
    if ahead:
        ids = [step.id for step in steps]
        oracle.read_ahead(list(prompt.base.ids), list(prompt.aligned.ids), ids)
    reference = oracle.decode(list(prompt.base.ids), list(prompt.aligned.ids), max_tokens)
    return assert_follows(steps, reference)


def without_stops(prompt: Any) -> Any:
    """The oracle knows no text, so the template's markers do not end an answer here."""
    from dataclasses import replace

    return replace(prompt, stops=())


@pytest.mark.parametrize(("base", "aligned"), FAMILIES)
def test_blendin_on_tiny_models_follows_the_oracle(tiny_pair: Any, base: str, aligned: str) -> None:
    assert follow(tiny_pair(base, aligned, 2.0), "How do I boil an egg?", 24, "blendin") >= 12


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("base", {}),
        ("aligned", {}),
        ("nudging", {"tau": 0.3}),
        ("fixed", {"tau": 0.6, "alpha": 0.3}),
        ("blendin", {"tau": 0.9, "lambda_": 1.0}),
        ("blendin", {"tau": 0.02, "gate": "entropy"}),
        ("nudging", {"tau": 0.02, "gate": "margin"}),
        ("ensemble", {}),
        ("kad", {}),
        ("kad", {"lambda_": 0.1}),
        ("kad-primal", {"lambda_": 0.2}),
        ("kad-primal", {"lambda_": 0.97}),
        ("confidence-bet", {"lambda_": 0.05}),
        ("proxy-tuning", {}),
        ("proxy-tuning", {"beta": 0.5}),
        ("contrastive", {}),
        ("contrastive", {"beta": 2.0, "lambda_": 0.8}),
    ],
)
@pytest.mark.parametrize("families", [("qwen3", "llama3_1"), ("llama3_1", "llama3_1")])
def test_every_method_follows_the_oracle(
    tiny_pair: Any, families: tuple[str, str], name: str, options: dict[str, Any]
) -> None:
    pair = tiny_pair(*families, 2.0)
    pair.reference = tiny_pair(families[1], families[1], 2.0).base
    assert follow(pair, "Name a colour.", 10, name, **options) >= 8


def test_the_demo_pair_follows_the_oracle(demo_pair: Pair) -> None:
    """Trained models are sure in many places and unsure in some, which random ones never are.

    English and another language; the first is read anew for every token, without any cache.
    """
    lengths = [follow(demo_pair, SHORT, 5, "blendin")]
    lengths += [follow(demo_pair, other, 12, "blendin", ahead=True) for other in READ_AHEAD]
    assert sum(lengths) >= 0.8 * (5 + 12), lengths


def test_guide_passes_are_interventions_and_stop_checks(demo_pair: Pair) -> None:
    """Stop checks come with line breaks that the base is sure of, which takes a trained base."""
    responses = list(stream_generate(demo_pair, "Why is the sky blue?", max_tokens=12))
    counts = responses[-1].statistics
    assert counts.interventions > 3
    asked = counts.interventions + counts.stop_checks
    # A word that was begun where the guide was not asked may take a second pass.
    assert asked <= counts.aligned.passes <= asked + 2
    assert counts.base.passes == counts.completion_tokens
