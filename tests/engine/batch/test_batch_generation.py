"""Each answer of a batch is the one that the same prompt gets alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, get_args
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from blendin_mlx.backend.mlx import mx
from blendin_mlx.batch.batch_decoder import BatchDecoder
from blendin_mlx.batch.batch_generation import BatchPrompt, batch_generate, batch_stream
from blendin_mlx.blend.methods import METHODS, make_method
from blendin_mlx.decoding.answer_options import AnswerOptions
from blendin_mlx.decoding.answer_stream import Response
from blendin_mlx.decoding.json_constraint import JsonConstraint
from blendin_mlx.decoding.rules import StopPolicy
from blendin_mlx.errors import BlendinError, NumericalError, PromptError
from blendin_mlx.generation import generate, stream_generate
from blendin_mlx.inspection import begun
from blendin_mlx.model import Pair
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_mlx.step import Step
from oracle import NEAR_TIE, Oracle, assert_follows
from scripted import (
    CONTROL,
    OTHER_WORDS,
    STOP,
    WORDS,
    Answer,
    Script,
    always,
    says,
    scripted_pair,
    scripted_tokenizer,
    writes,
)
from tiny import tiny_model

PROMPTS = (
    *("Why?", "The sea is wide and deep. " * 9, "x", "Is the sky blue? Is it wide?" * 4),
    *("ways " * 30, "Yes.", "The END is near, and nearer."),
)
WINDOW = 16
POLICIES: tuple[StopPolicy, ...] = get_args(StopPolicy)


@cache
def pair_of(tokenizers: int = 1, architecture: str = "llama") -> Pair:
    """Tiny random models over a few hundred tokens; the third one is the reference."""
    own = scripted_tokenizer()
    other = scripted_tokenizer(OTHER_WORDS, CONTROL[::-1], reverse=True)
    other = own if tokenizers == 1 else other
    window = {"sliding_window": WINDOW} if architecture == "gemma3_text" else {}
    return Pair(
        *(
            tiny_model(tokenizer, architecture, seed=seed, sharpness=2.0, **window)
            for seed, tokenizer in enumerate((own, other, other))
        )
    )


def alone(pair: Pair, one: BatchPrompt) -> Answer:
    """The answer of one prompt by itself."""
    if one.seed is not None:
        mx.random.seed(one.seed)
    options = {name: getattr(one.options, name) for name in one.options.__dataclass_fields__}
    return Answer(list(stream_generate(pair, one.prompt, **options)))


def together(pair: Pair, prompts: Sequence[BatchPrompt], size: int) -> list[Answer]:
    """The answers of a batch."""
    answers = [Answer([]) for _ in prompts]
    for index, outcome in batch_stream(BatchDecoder(pair), prompts, size=size):
        assert not isinstance(outcome, BlendinError), outcome
        answers[index].responses.append(outcome)
    return answers


def closeness(step: Step) -> float:
    """How near a decision was to another one."""
    margins = [step.gap, step.stop_prob - 0.5]
    margins += [] if step.gate_margin is None else [step.gate_margin]
    return min(map(abs, margins))


def assert_same(got: Answer, expected: Answer) -> None:
    """Two answers are the same, or part where the margin shows a near-tie."""
    for one, other in zip(got.steps, expected.steps, strict=False):
        if (one.id, one.source) != (other.id, other.source):
            assert min(closeness(one), closeness(other)) < NEAR_TIE, (one, other)
            return
        assert (one.stop_check, one.instead_of) == (other.stop_check, other.instead_of)
        assert one.prob == pytest.approx(other.prob, abs=1e-4)
    assert len(got.steps) == len(expected.steps)
    assert (got.text, got.finish_reason) == (expected.text, expected.finish_reason)
    ours, theirs = got.statistics, expected.statistics
    assert ours.text == theirs.text
    for name in ("token_ids", "interventions", "overrides", "stop_checks"):
        assert getattr(ours, name) == getattr(theirs, name), name


def assert_each_is_as_alone(pair: Pair, prompts: Sequence[BatchPrompt], size: int) -> list[Answer]:
    answers = together(pair, prompts, size)
    for got, one in zip(answers, prompts, strict=True):
        assert_same(got, alone(pair, one))
    return answers


def ask(options: AnswerOptions, prompts: Sequence[Any] = PROMPTS) -> list[BatchPrompt]:
    return [BatchPrompt(prompt, options, seed=n) for n, prompt in enumerate(prompts)]


@pytest.mark.parametrize("tokenizers", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, tokenizers: int) -> None:
    pair, prompts = pair_of(tokenizers), ask(AnswerOptions(method, max_tokens=12))
    answers = assert_each_is_as_alone(pair, prompts, 7)
    assert any(answer.statistics.interventions for answer in answers) == (method != "base")
    ours, theirs = answers[0].statistics, alone(pair, prompts[0]).statistics
    assert (ours.base, ours.aligned, ours.reference) == (
        theirs.base,
        theirs.aligned,
        theirs.reference,
    )


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_every_size(size: int) -> None:
    prompts = ask(AnswerOptions(max_tokens=10), [f"{n} {p}" for n in range(3) for p in PROMPTS])
    assert_each_is_as_alone(pair_of(2), prompts, size)


@pytest.mark.parametrize("tokenizers", [1, 2])
def test_beyond_a_sliding_window(tokenizers: int) -> None:
    pair = pair_of(tokenizers, "gemma3_text")
    answers = assert_each_is_as_alone(pair, ask(AnswerOptions(max_tokens=2 * WINDOW)), 7)
    assert max(answer.statistics.base_prompt_tokens for answer in answers) > 4 * WINDOW


def test_the_oracle_judges() -> None:
    pair = pair_of(2)
    prompts = [build_prompt(pair, text) for text in PROMPTS]
    answers = together(pair, ask(AnswerOptions(max_tokens=12), prompts), 3)
    for prompt, answer in zip(prompts, answers, strict=True):
        reference = Oracle(pair).decode(list(prompt.base.ids), list(prompt.aligned.ids), 12)
        assert_follows(answer.steps, reference)


@settings(max_examples=12)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    methods=st.lists(st.sampled_from(sorted(METHODS)), min_size=9, max_size=9),
    size=st.integers(1, 6),
    tokenizers=st.sampled_from([1, 2]),
)
def test_answers_join_and_leave_at_any_step(
    lengths: list[int], methods: list[str], size: int, tokenizers: int
) -> None:
    """Answers of other methods and lengths go side by side; one that ends makes room."""
    prompts = [
        BatchPrompt(PROMPTS[n % len(PROMPTS)], AnswerOptions(method, max_tokens=length))
        for n, (length, method) in enumerate(zip(lengths, methods, strict=False))
    ]
    assert_each_is_as_alone(pair_of(tokenizers), prompts, size)


def babble(seed: int, some: Sequence[str] = WORDS) -> Script:
    """Any of a few words, turns and ends, more or less surely, by what was written so far."""
    words = [*some, STOP, b"\xe2", b"\x82", b"\xac"]

    def row(written: bytes) -> dict[Any, float]:
        number = crc32(b"%d %d %b" % (seed, len(written) // 9, written[-12:]))
        first, second = words[number % len(words)], words[number // 97 % len(words)]
        confidence = (0.2, 0.35, 0.6, 0.9)[number // 7 % 4]
        return {second: (1 - confidence) * 0.8, first: confidence}

    return row


def openings(pair: Pair, count: int) -> list[PairPrompt]:
    """Prompts whose answers begin differently, so that scripts go on differently."""
    prompt = build_prompt(pair, "Hi")
    vocabulary = pair.base.vocabulary
    texts = [(WORDS[n % 9] + WORDS[n // 3 % 9]).strip("\n") for n in range(count)]
    return [begun(pair, prompt, vocabulary.encode(text)) for text in texts]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("tokenizers", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_every_stop_policy(policy: StopPolicy, tokenizers: int, seed: int) -> None:
    words = WORDS if tokenizers == 1 else OTHER_WORDS
    pair = scripted_pair(babble(seed), babble(seed + 50, words), tokenizers=tokenizers)
    options = AnswerOptions(stop_policy=policy, max_tokens=24, stop=["END"])
    assert_each_is_as_alone(pair, ask(options, openings(pair, 9)), 4)


def test_ends_are_taken_back_in_one_row_while_others_go_on() -> None:
    base = says({"The": {STOP: 0.9}, "The sea": {STOP: 0.9}}, otherwise={" is": 0.8})
    pair = scripted_pair(base, always({" sea": 0.9}))
    options = AnswerOptions(stop_policy="guide", max_tokens=6)
    vocabulary = pair.base.vocabulary
    begins = [begun(pair, build_prompt(pair, "Hi"), vocabulary.encode(t)) for t in ("The", "Yes")]
    taken, other = assert_each_is_as_alone(pair, ask(options, begins), 2)
    assert [step.instead_of is not None for step in taken.steps].count(True) == 2
    assert all(step.instead_of is None for step in other.steps)


@pytest.mark.parametrize("tokenizers", [1, 2])
def test_a_seed_draws_what_it_draws_alone(tokenizers: int) -> None:
    sampler = make_sampler(temp=0.9, top_p=0.95)
    prompts = ask(AnswerOptions("fixed", 12, sampler), ["Why?"] * 4)
    answers = assert_each_is_as_alone(pair_of(tokenizers), prompts, 3)
    assert len({answer.text for answer in answers}) > 1


def test_draws_without_a_seed_differ_and_follow_mlx() -> None:
    pair, options = pair_of(), AnswerOptions("base", 8, make_sampler(temp=1.0))
    texts = []
    for _ in range(2):
        mx.random.seed(7)
        texts.append([a.text for a in together(pair, [BatchPrompt("Why?", options)] * 3, 3)])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3


def test_penalties_see_the_tokens_of_their_own_row() -> None:
    penalty = make_logits_processors(repetition_penalty=1.7)
    options = AnswerOptions(max_tokens=12, logits_processors=penalty)
    assert_each_is_as_alone(pair_of(2), ask(options), 4)


def test_each_row_is_held_to_a_schema_of_its_own() -> None:
    pair = pair_of()
    schemas = [{"enum": ["yes", "no"]}, {"type": "integer", "maximum": 99}, {"type": "boolean"}]
    prompts = [
        BatchPrompt("Why?", AnswerOptions(constraint=JsonConstraint(pair.base.vocabulary, schema)))
        for schema in schemas
    ]
    answers = assert_each_is_as_alone(pair, prompts, 3)
    assert all(answer.finish_reason == "stop" for answer in answers)


def test_candidates_are_those_of_the_row() -> None:
    answers = assert_each_is_as_alone(pair_of(2), ask(AnswerOptions(max_tokens=5, candidates=3)), 4)
    for got, one in zip(answers, ask(AnswerOptions(max_tokens=5, candidates=3)), strict=True):
        for ours, theirs in zip(got.steps, alone(pair_of(2), one).steps, strict=True):
            assert ours.candidates is not None
            assert theirs.candidates is not None
            assert [c.id for c in ours.candidates.base] == [c.id for c in theirs.candidates.base]


def test_all_rows_share_the_passes_of_both_models() -> None:
    pair = scripted_pair(always({" sea": 0.3}), always({" sky": 0.9}))
    batch = BatchDecoder(pair)
    networks = pair.base.network, pair.aligned.network
    for network in networks:
        network.calls.clear()
    options = AnswerOptions("fixed", max_tokens=10)
    for _ in batch_stream(batch, ask(options, ["Hi"] * 6), size=6):
        pass
    for network in networks:
        assert [read for read in network.calls if read == 6] == [6] * 10


def test_what_prompts_have_in_common_is_read_once() -> None:
    pair = scripted_pair(writes("The"), writes("The"))
    shared = "The sea is wide and deep. " * 20
    batch = BatchDecoder(pair)
    pair.base.network.calls.clear()
    prompts = ask(AnswerOptions(max_tokens=1), [f"{shared}{n}" for n in range(5)])
    for _ in batch_stream(batch, prompts, size=2):
        pass
    tokens = len(build_prompt(pair, shared).base.ids)
    assert tokens < sum(pair.base.network.calls) < 2 * tokens


@pytest.mark.parametrize("broken", ["base", "aligned"])
def test_logits_that_are_no_numbers_end_one_answer_alone(broken: str) -> None:
    spoilt = says({"Yes": {" sea": math.nan}}, otherwise={" sea": 0.3})
    sound = always({" sky": 0.9, " sea": 0.05})
    scripts = (spoilt, sound) if broken == "base" else (always({" is": 0.3}), spoilt)
    pair = scripted_pair(*scripts)
    vocabulary = pair.base.vocabulary
    texts = ("The", "Yes", " blue")
    begins = [begun(pair, build_prompt(pair, "Hi"), vocabulary.encode(text)) for text in texts]
    prompts = ask(AnswerOptions("fixed", max_tokens=6), [*begins, begins[0]])
    ended: dict[int, Any] = {}
    for index, outcome in batch_stream(BatchDecoder(pair), prompts, size=3):
        ended[index] = outcome
    assert isinstance(ended.pop(1), NumericalError)
    for index, outcome in ended.items():
        assert outcome.statistics.token_ids == alone(pair, prompts[index]).statistics.token_ids


def test_an_error_of_our_own_ends_one_answer_alone_and_is_raised() -> None:
    def spoilt(ids: mx.array, logits: mx.array) -> mx.array:
        raise KeyError("spoilt")

    pair, good = pair_of(), AnswerOptions(max_tokens=6)
    batch, options = BatchDecoder(pair), [good, replace(good, logits_processors=[spoilt]), good]
    for n, one in enumerate(options):
        batch.add(n, build_prompt(pair, PROMPTS[n]), one)
    ended = {}
    while batch:
        ended |= dict(batch.step())
    assert isinstance(ended.pop(1), KeyError)
    for n, outcome in ended.items():
        expected = alone(pair, BatchPrompt(PROMPTS[n], good)).statistics.token_ids
        assert outcome.statistics.token_ids == expected
    with pytest.raises(KeyError, match="spoilt"):
        list(batch_stream(batch, [BatchPrompt("Why?", one) for one in options]))


def test_a_pass_that_cannot_be_made_for_one_is_made_for_the_others() -> None:
    """The last token of a prompt is read in a pass that all rows share."""
    pair = pair_of()
    prompt, beyond = build_prompt(pair, "Why?"), pair.base.rows
    bad = replace(prompt, base=replace(prompt.base, ids=(*prompt.base.ids, beyond)))
    prompts = ask(AnswerOptions("base", max_tokens=5), ["x", bad, "Yes."])
    ended = dict(batch_stream(BatchDecoder(pair), prompts, size=3))
    assert isinstance(ended.pop(1), PromptError)
    for index, outcome in ended.items():
        assert isinstance(outcome, Response)
        assert outcome.statistics.token_ids == alone(pair, prompts[index]).statistics.token_ids


def test_after_it_was_closed_in_the_middle_others_are_answered() -> None:
    pair, options = pair_of(2), AnswerOptions(max_tokens=8)
    batch = BatchDecoder(pair)
    for n, text in enumerate(PROMPTS[:3]):
        batch.add(n, build_prompt(pair, text), options)
    batch.step()
    batch.close()
    assert len(batch) == 0
    assert not any(context.rows for context in batch._contexts.values())
    (one,) = ask(options, ["Why?"])
    got = [outcome for _, outcome in batch_stream(batch, [one])]
    assert_same(Answer(got), alone(pair, one))


def test_what_is_kept_of_answers_is_shared_out_by_what_a_token_takes() -> None:
    pair = pair_of(2)
    batch, prompts = BatchDecoder(pair), ask(AnswerOptions(max_tokens=9))
    batch.keep(2**16)
    limits = [context.kept.limit for context in batch._contexts.values()]
    assert 0 < sum(limits) <= 2**16
    for _ in batch_stream(batch, prompts, size=3):
        pass
    held = [context.kept.nbytes for context in batch._contexts.values()]
    assert 0 < sum(held) <= 2**16
    batch.forget()
    assert not any(context.kept.nbytes for context in batch._contexts.values())


def test_a_prompt_that_cannot_be_used_is_an_error_of_its_own() -> None:
    pair = scripted_pair(writes("The", " sea"), writes("The", " sea"), limit=60)
    prompts = ask(AnswerOptions(max_tokens=5), ["Hi", "Hi " * 60, "Ho"])
    outcomes = dict(batch_stream(BatchDecoder(pair), prompts, size=2))
    assert isinstance(outcomes[1], PromptError)
    assert [outcomes[n].statistics.text for n in (0, 2)] == ["The sea"] * 2


@pytest.mark.parametrize("kv_bits", [None, 8])
def test_caches_that_hold_one_answer_are_used_one_after_the_other(kv_bits: int | None) -> None:
    pair = pair_of() if kv_bits else pair_of(1, "mamba2")
    batch = BatchDecoder(pair, kv_bits=kv_bits)
    assert batch.obstacle is not None
    prompts = ask(AnswerOptions("fixed", max_tokens=4))
    responses: list[list[Any]] = [[] for _ in prompts]
    order = []
    for index, outcome in batch_stream(batch, prompts, size=4):
        responses[index].append(outcome)
        order.append(index)
    assert order == sorted(order)
    for one, got in zip(prompts, responses, strict=True):
        options = {"method": "fixed", "max_tokens": 4, "kv_bits": kv_bits}
        *_, last = stream_generate(pair, one.prompt, **options)
        assert got[-1].statistics.token_ids == last.statistics.token_ids


def test_a_wish_to_stop_ends_every_answer_and_begins_none() -> None:
    pair, seen = pair_of(), list[Any]()
    prompts = ask(AnswerOptions(max_tokens=50))
    for index, outcome in batch_stream(
        BatchDecoder(pair), prompts, size=3, should_stop=lambda: len(seen) >= 12
    ):
        seen.append((index, outcome))
    reasons = {index: outcome.finish_reason for index, outcome in seen}
    assert reasons == dict.fromkeys(range(3), "interrupted")


def test_an_abandoned_batch_leaves_its_answers() -> None:
    batch = BatchDecoder(pair_of())
    stream = batch_stream(batch, ask(AnswerOptions(max_tokens=50)), size=3)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(batch) == 0


def test_texts_come_in_the_order_of_the_prompts() -> None:
    pair = pair_of(2)
    texts = batch_generate(pair, PROMPTS, size=3, max_tokens=6, method=make_method("fixed"))
    assert texts == [generate(pair, p, max_tokens=6, method="fixed") for p in PROMPTS]


def test_an_error_is_raised_where_only_texts_are_wanted() -> None:
    pair = scripted_pair(writes("The"), writes("The"), limit=60)
    with pytest.raises(PromptError):
        batch_generate(pair, ["Hi", "Hi " * 60])


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, not 0"):
        list(batch_stream(BatchDecoder(pair_of()), [], size=0))


def test_options_are_checked_when_they_are_given() -> None:
    for wrong in ({"max_tokens": 0}, {"candidates": -1}, {"stop_policy": "x"}, {"method": "x"}):
        with pytest.raises(ValueError, match=next(iter(wrong))[:4]):
            AnswerOptions(**wrong)
    with pytest.raises(ValueError, match="max_tokens"):
        replace(AnswerOptions(), max_tokens=0)
