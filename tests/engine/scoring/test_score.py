"""A text's score is the oracle's, a trace's, and what the identities of the methods say."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.dial import Dialled
from blendin_mlx.blend.methods import make_method
from blendin_mlx.errors import NumericalError, PromptError
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import build_prompt
from blendin_mlx.scoring.positions import logits_after, read_positions
from blendin_mlx.scoring.score import score, score_each
from counting import count_reads
from oracle import Oracle
from scripted import STOP, always, says, scripted_pair
from small_pairs import small_pair

TEXT = "The sea is wide and blue, naïve ☃!\n\nThe sky."
BOTH = pytest.mark.parametrize("tokenizers", [1, 2])


@BOTH
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("base", {}),
        ("aligned", {}),
        ("blendin", {"tau": 0.6}),
        ("nudging", {"tau": 0.3}),
        ("nudging", {"tau": 0.1, "gate": "entropy"}),
        ("fixed", {"tau": 0.1, "alpha": 0.3, "gate": "margin"}),
        ("fixed", {"tau": 0.9, "alpha": 0.3}),
        ("kad", {}),
        ("kad-primal", {}),
        ("confidence-bet", {"lambda_": 0.05}),
        ("proxy-tuning", {"beta": 0.5}),
        ("contrastive", {}),
        ("contrastive", {"beta": 1.0, "lambda_": 0.0}),
    ],
)
def test_it_is_the_oracles(tokenizers: int, name: str, options: dict[str, Any]) -> None:
    pair = small_pair(tokenizers)
    prompt = build_prompt(pair, "How do I boil an egg?")
    found = score(pair, prompt, TEXT, method=make_method(name, **options))
    slow = Oracle(pair, name, **options)
    scored = pair.aligned if name == "aligned" else pair.base
    ids = [*slow.encode(scored, TEXT), min(scored.stop_ids)]
    assert found.token_ids == tuple(ids)
    expected = slow.score(list(prompt.base.ids), list(prompt.aligned.ids), ids)
    assert found.log_probs == pytest.approx(expected, abs=2e-3)
    assert found.total == pytest.approx(sum(found.log_probs))
    assert found.bits_per_byte == pytest.approx(-found.total / math.log(2) / len(TEXT.encode()))


@BOTH
@pytest.mark.parametrize("temper", [1.0, 0.5])
def test_several_methods_are_scored_as_each_is_alone(tokenizers: int, temper: float) -> None:
    pair = small_pair(tokenizers)
    prompt = build_prompt(pair, "How do I boil an egg?")
    names = ("base", "aligned", "nudging", "blendin", "proxy-tuning", "contrastive", "aligned")
    methods = [Dialled(make_method(name), temper=temper) for name in names]
    cache = make_prompt_cache(pair)
    reads = count_reads(cache.base)
    together = score_each(pair, prompt, TEXT, methods, prompt_cache=cache)
    assert sum(reads) == len(prompt.base.ids) - 1 + len(together[0].token_ids)
    alone = [score(pair, prompt, TEXT, method=method) for method in methods]
    for one, other in zip(together, alone, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
        assert replace(one, log_probs=()) == replace(other, log_probs=())


@pytest.mark.parametrize("option", ["guide_temp", "temper"])
def test_methods_that_want_different_models_are_not_scored_together(option: str) -> None:
    cold = Dialled(make_method("blendin"), **{option: 0.5})
    with pytest.raises(ValueError, match="the same temperatures"):
        score_each(small_pair(2), "Hi", TEXT, [make_method("blendin"), cold])


def test_it_is_the_oracles_with_published_tokenizers(tiny_pair: Any) -> None:
    pair = tiny_pair("qwen3", "llama3_1", 2.0)
    prompt = build_prompt(pair, "How do I boil an egg?")
    text = "Unwrap 12 eggs, naïve."
    found = score(pair, prompt, text, method=make_method("blendin", tau=0.9))
    oracle = Oracle(pair, "blendin", tau=0.9)
    ids = [*oracle.encode(pair.base, text), min(pair.base.stop_ids)]
    expected = oracle.score(list(prompt.base.ids), list(prompt.aligned.ids), ids)
    assert found.log_probs == pytest.approx(expected, abs=2e-3)


def test_long_texts_are_the_oracles_too() -> None:
    pair = small_pair(2)
    prompt = build_prompt(pair, "Repeat.")
    text = " ".join(TEXT for _ in range(12))
    found = score(pair, prompt, text, method=make_method("fixed", tau=1.0), complete=False)
    oracle = Oracle(pair, "fixed", tau=1.0)
    ids = oracle.encode(pair.base, text)
    assert len(ids) > 200
    base, aligned = list(prompt.base.ids), list(prompt.aligned.ids)
    oracle.read_ahead(base, aligned, ids)
    assert found.log_probs == pytest.approx(oracle.score(base, aligned, ids), abs=2e-3)


@BOTH
@pytest.mark.parametrize("name", ["base", "blendin", "nudging", "ensemble"])
def test_it_is_what_a_trace_of_the_text_recorded(tokenizers: int, name: str) -> None:
    pair = small_pair(tokenizers)
    prompt = replace(build_prompt(pair, "Name a colour."), stops=())
    responses = stream_generate(pair, prompt, method=name, max_tokens=24, stop_policy="blend")
    steps = [piece.step for one in responses for piece in one.pieces]
    ids = [step.id for step in steps if not step.is_stop]
    found = score(pair, prompt, ids, method=name, complete=steps[-1].is_stop)
    assert found.log_probs == pytest.approx([math.log(step.prob) for step in steps], abs=1e-3)
    assert found.interventions == sum(step.is_intervention for step in steps)
    assert found.is_greedy


def test_a_text_that_the_method_would_not_write_is_not_greedy() -> None:
    pair = small_pair()
    assert not score(pair, "Name a colour.", TEXT).is_greedy


@BOTH
def test_identities(tokenizers: int) -> None:
    pair = small_pair(tokenizers)

    def total(method: Any, of: Pair = pair) -> float:
        return score(of, "How do I boil an egg?", TEXT, method=method).total

    base = total("base")
    assert total(make_method("blendin", tau=0.0)) == base
    assert total(make_method("fixed", tau=1.0, alpha=0.0)) == pytest.approx(base, abs=1e-4)
    assert total(Dialled(make_method("ensemble"), 0.0)) == base
    nothing = make_method("contrastive", beta=0.0, lambda_=0.0)
    assert total(nothing) == total(make_method("kad-primal", lambda_=0.0)) == base
    everywhere = total(make_method("nudging", tau=1.0))
    assert total(make_method("kad-primal", lambda_=1.0)) == pytest.approx(everywhere, abs=1e-4)
    nudging = total(make_method("nudging", tau=0.5))
    assert total(make_method("fixed", tau=0.5, alpha=1.0)) == pytest.approx(nudging, abs=1e-4)
    assert nudging != pytest.approx(base, abs=1e-2)


@pytest.mark.parametrize("name", ["blendin", "fixed", "nudging", "ensemble"])
def test_a_guide_that_is_the_base_changes_nothing(name: str) -> None:
    pair = small_pair()
    twin = Pair(pair.base, pair.base)
    prompt = build_prompt(twin, "Name a colour.")
    prompt = replace(prompt, aligned=prompt.base)
    alone = score(twin, prompt, TEXT, method="base")
    both = score(twin, prompt, TEXT, method=name)
    assert both.log_probs == pytest.approx(alone.log_probs, abs=1e-3)


def test_answers_to_one_prompt_share_its_reading() -> None:
    pair = small_pair(2)
    prompt, cache = build_prompt(pair, "How do I boil an egg?"), make_prompt_cache(pair)
    answers = (TEXT, "Put the egg in a pan.", "No.")
    alone = [score(pair, prompt, one) for one in answers]
    reads = count_reads(cache.base)
    for answer, expected in zip(answers, alone, strict=True):
        before = sum(reads)
        found = score(pair, prompt, answer, prompt_cache=cache)
        assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-3)
        fresh = sum(reads) - before
        assert fresh == len(found.token_ids) + (0 if before else len(prompt.base.ids) - 1)


def test_one_tokenizer_takes_one_pass_of_each_model() -> None:
    pair = small_pair()
    cache = make_prompt_cache(pair)
    found = score(pair, "Name a colour.", "It is red.", method="ensemble", prompt_cache=cache)
    assert len(found.token_ids) > 3
    assert (cache.base.passes, cache.aligned.passes) == (1, 1)


def test_what_the_guide_alone_has_read_is_not_read_again_for_a_blend() -> None:
    pair = small_pair()
    cache = make_prompt_cache(pair)
    methods = [make_method("aligned"), make_method("ensemble")]
    found = score_each(pair, "Name a colour.", "It is red.", methods, prompt_cache=cache)
    assert (cache.base.passes, cache.aligned.passes) == (1, 1)
    for name, one in zip(("aligned", "ensemble"), found, strict=True):
        alone = score(pair, "Name a colour.", "It is red.", method=name)
        assert one.log_probs == pytest.approx(alone.log_probs, abs=1e-4)


def test_other_splits_are_read_from_what_they_share() -> None:
    context = make_prompt_cache(small_pair()).base
    reads = count_reads(context)
    sequences = [[5], [5, 7], [5, 8, 2], [5, 8, 2, 3], [5, 8, 4], [5, 8, 2, 3, 9]]
    together = logits_after(context, sequences)
    assert (context.passes, sum(reads)) == (3, 5 + 1 + 1)
    for row, sequence in zip(together, sequences, strict=True):
        assert mx.allclose(row, context.after(sequence)[0], atol=1e-3)


def test_bytes_of_half_a_character_are_the_bases_alone() -> None:
    pair = scripted_pair(always({}), always({" blue": 0.9}), tokenizers=2)
    letters = pair.base.vocabulary.encode("é")
    assert len(letters) == 2
    found = score(pair, "Hi", letters, method="ensemble", complete=False)
    alone = score(pair, "Hi", letters, method="base", complete=False)
    assert found.interventions == 1
    assert found.log_probs[0] != pytest.approx(alone.log_probs[0], abs=1e-3)
    assert found.log_probs[1] == alone.log_probs[1]


def test_what_nobody_would_write_is_finite() -> None:
    pair = scripted_pair(always({}), always({}), tokenizers=2)
    found = score(pair, "Hi", " wide", method=make_method("nudging", tau=1.0), complete=False)
    assert found.log_probs == pytest.approx([math.log(1e-37)], abs=0.01)


def test_the_end_is_scored_where_the_text_is_whole() -> None:
    pair = scripted_pair(says({"The": {STOP: 0.5, " sea": 0.5}}), always({}))
    whole = score(pair, "Hi", "The", method="base")
    part = score(pair, "Hi", "The", method="base", complete=False)
    assert whole.total - part.total == pytest.approx(math.log(0.5), abs=1e-5)
    assert score(pair, "Hi", "", method="base").bits_per_byte is None


def test_what_cannot_be_scored() -> None:
    pair = scripted_pair(always({}), always({}), limit=60)
    with pytest.raises(PromptError, match="nothing to score"):
        score(pair, "Hi", "", complete=False)
    with pytest.raises(PromptError, match="lone surrogate at character 1"):
        score(pair, "Hi", "a\ud800")
    with pytest.raises(PromptError, match=r"tokens for scripted guide, whose context holds 60"):
        score(pair, "Hi", "blue" * 60)
    damaged = scripted_pair(always({}), says({"The": {" sea": math.nan}}))
    with pytest.raises(NumericalError, match=r"scripted guide produced .* at token 1 of"):
        score(damaged, "Hi", "The sea.", method="ensemble")
    damaged = scripted_pair(says({"The": {" sea": math.nan}}), always({}))
    with pytest.raises(NumericalError, match=r"scripted base produced .* at token 1 of"):
        score(damaged, "Hi", "The sea.", method="ensemble")


def test_a_text_is_read_in_blocks_of_its_order() -> None:
    pair = small_pair()
    ids = pair.base.vocabulary.encode(TEXT * 9)
    prompt = build_prompt(pair, "Hi").base.ids
    blocks = list(read_positions(make_prompt_cache(pair).base, prompt, ids, None))
    assert [token for block in blocks for token in block.tokens] == ids
    assert len(blocks) > 2
