"""What the harness is told is what the models say, by its own rule of tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.eval.conversations import as_context, conversation_of
from blendin_mlx.backend.mlx import mx
from blendin_mlx.errors import PromptError
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompts import PairPrompt, Prompt, build_prompt
from blendin_mlx.scoring.score import score
from counting import count_reads
from small_pairs import small_model, small_pair

CONTEXT = "Question: The sea is naïve?\nAnswer:"
OPTIONS = (" The sky", " blue and wide", " ☃", " END")
BOTH = pytest.mark.parametrize("tokenizers", [1, 2])
METHODS = pytest.mark.parametrize("method", ["base", "aligned", "blendin", "kad", "nudging"])


def log_probs(model, ids):
    """``log P`` of each token after the first, teacher-forced and in numpy."""
    logits = np.array(model.network(mx.array([ids])).astype(mx.float32))[0].astype(np.float64)
    logits = logits[:, : model.vocabulary.size]
    top = logits.max(axis=-1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    rows = np.arange(len(ids) - 1)
    return logs[rows, ids[1:]], logs[:-1].argmax(axis=-1) == ids[1:]


def by_hand(model, context, continuation):
    """Log-likelihood and greed, by the harness's rule, with the tokenizer itself."""

    def encode(text):
        return model.tokenizer.encode(text, add_special_tokens=False)

    head, text = encode(context.rstrip()), encode(context + continuation)
    found, greedy = log_probs(model, text)
    begin = len(head) - 1
    return found[begin:].sum(), bool(greedy[begin:].all())


@pytest.mark.parametrize("context", [CONTEXT, f"{CONTEXT} ", f"{CONTEXT}\n\n "])
@pytest.mark.parametrize("method", ["base", "aligned"])
def test_a_model_alone_is_what_teacher_forcing_says(make_lm, ask, context, method):
    pair = small_pair(2)
    lm = make_lm(pair, method=method)
    model = pair.base if method == "base" else pair.aligned
    found = ask(lm, "loglikelihood", *((context, option) for option in OPTIONS))
    for (total, is_greedy), option in zip(found, OPTIONS, strict=True):
        expected, greedy = by_hand(model, context, option)
        assert total == pytest.approx(expected, abs=1e-3)
        assert is_greedy == greedy


def test_nothing_before_is_the_first_token(make_lm, ask):
    pair = small_pair(2)
    ((total, _),) = ask(make_lm(pair, method="base"), "loglikelihood", ("", "The sea"))
    ids = [pair.base.tokenizer.eos_token_id, *pair.base.vocabulary.encode("The sea")]
    assert total == pytest.approx(log_probs(pair.base, ids)[0].sum(), abs=1e-3)


@BOTH
def test_identities(make_lm, ask, tokenizers):
    pair = small_pair(tokenizers)
    requests = [(CONTEXT, option) for option in OPTIONS]

    def found(of=pair, **options):
        totals = [total for total, _ in ask(make_lm(of, **options), "loglikelihood", *requests)]
        return pytest.approx(totals, abs=1e-3)

    base = [total for total, _ in ask(make_lm(pair, method="base"), "loglikelihood", *requests)]
    assert found(tau=0) == base
    assert found(method="fixed", alpha=0, tau=1) == base
    assert found(Pair(pair.base, pair.base), method="ensemble") == base
    assert found(method="ensemble") != base
    assert found(method="fixed", alpha=1) == found(method="nudging").expected
    assert found(method="aligned") == found(Pair(pair.aligned, pair.aligned), tau=0).expected


@BOTH
@METHODS
def test_a_continuation_is_scored_as_by_the_engine(make_lm, ask, tokenizers, method):
    pair = small_pair(tokenizers)
    (found,) = ask(make_lm(pair, method=method), "loglikelihood", (CONTEXT, " The sky"))
    both = (Prompt("", tuple(one.vocabulary.encode(CONTEXT))) for one in (pair.base, pair.aligned))
    engine = score(pair, PairPrompt(*both), " The sky", method=method, complete=False)
    assert found == (pytest.approx(engine.total, abs=1e-3), engine.is_greedy)


@pytest.mark.parametrize("method", ["base", "aligned"])
def test_what_greed_writes_is_greedy(make_lm, ask, method):
    pair = small_pair(2)
    model = pair.base if method == "base" else pair.aligned
    written = [
        (context, greedy_text(model, context)) for context in map("Question {}".format, range(60))
    ]
    requests = [one for one in written if one[1] and by_hand(model, *one)[1]]
    assert len(requests) > 2
    lm = make_lm(pair, method=method)
    assert all(is_greedy for _, is_greedy in ask(lm, "loglikelihood", *requests))
    longer = [(context, f"{text} naïve END") for context, text in requests]
    assert not any(is_greedy for _, is_greedy in ask(lm, "loglikelihood", *longer))


def greedy_text(model, context):
    """The likeliest next token as text; empty where it is a part of a character."""
    logits = model.network(mx.array([model.vocabulary.encode(context)]))[0, -1]
    written = model.vocabulary.bytes_of([int(logits.argmax().item())])
    return written.decode(errors="ignore")


def test_options_of_a_question_share_its_reading(make_lm, ask):
    lm = make_lm(method="ensemble")
    cache = lm._session.cache
    reads = [count_reads(one) for one in (cache.base, cache.aligned)]
    ask(lm, "loglikelihood", *((CONTEXT, option) for option in OPTIONS))
    pair = lm._session.pair
    for model, calls in zip((pair.base, pair.aligned), reads, strict=True):
        before = len(model.vocabulary.encode(CONTEXT))
        after = sum(len(model.vocabulary.encode(option)) for option in OPTIONS)
        assert before <= sum(calls) <= before + 2 * after


def test_a_context_that_is_too_long_loses_its_beginning(make_lm, ask):
    pair = small_pair(1)
    limit = 24
    ((total, _),) = ask(
        make_lm(pair, method="base", context=limit), "loglikelihood", (CONTEXT * 3, " The sky")
    )
    ids = pair.base.vocabulary.encode(CONTEXT * 3 + " The sky")
    own = len(pair.base.vocabulary.encode(" The sky"))
    pair.limit_context(None)
    assert total == pytest.approx(log_probs(pair.base, ids[-limit:])[0][-own:].sum(), abs=1e-3)


def test_nothing_to_score_is_said(make_lm, ask):
    with pytest.raises(PromptError, match="nothing to score"):
        ask(make_lm(), "loglikelihood", (CONTEXT, ""))


DOCUMENT = "The sea is wide and blue, naïve ☃!\n\nThe sky. END" * 2


@pytest.mark.parametrize("method", ["base", "aligned"])
@pytest.mark.parametrize("limit", [None, 20])
def test_a_document_has_each_token_predicted_once(make_lm, ask, method, limit):
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    pair = small_pair(2)
    lm = make_lm(pair, method=method, **({"context": limit} if limit else {}))
    (found,) = ask(lm, "loglikelihood_rolling", (DOCUMENT,))
    model = pair.base if method == "base" else pair.aligned
    ids = model.vocabulary.encode(DOCUMENT)
    cut = get_rolling_token_windows(
        ids, model.tokenizer.eos_token_id, limit - 1 if limit else len(ids), 1
    )
    windows = list(map(make_disjoint_window, cut))
    assert [one for _, part in windows for one in part] == ids
    assert (len(windows) > 1) == bool(limit)
    expected = sum(
        log_probs(model, [*before, *part])[0][-len(part) :].sum() for before, part in windows
    )
    assert found == pytest.approx(expected, abs=1e-2)


def test_windows_of_a_guide_that_is_the_base_are_the_base(make_lm, ask):
    base = small_model(1, 1)
    pair, text = Pair(base, base), "The sea is wide and blue.\n\nThe sky. END" * 2
    alone, blend = (
        ask(make_lm(pair, method=method, context=20), "loglikelihood_rolling", (text,))
        for method in ("base", "ensemble")
    )
    assert blend == pytest.approx(alone, abs=1e-2)


def test_windows_of_a_blend_fit_both_models(make_lm, ask):
    lm = make_lm(small_pair(2), method="ensemble", context=20)
    assert math.isfinite(ask(lm, "loglikelihood_rolling", (DOCUMENT,))[0])
    windows, pair = lm._scorer._windows(DOCUMENT), lm._session.pair
    written = [pair.base.vocabulary.bytes_of(one.tokens) for one in windows]
    assert b"".join(written) == DOCUMENT.encode()
    for window, text in zip(windows, written, strict=True):
        own = pair.aligned.vocabulary.encode(text.decode(errors="replace"))
        assert len(window.base) + len(window.tokens) <= 20
        assert len(window.aligned) + len(own) <= 20


def test_an_empty_document_has_no_surprise(make_lm, ask):
    assert ask(make_lm(), "loglikelihood_rolling", ("",)) == [0]


ASKED = ("Question: 1\nAnswer:", "The sea is", "Why?\n", "Say END. ")


@BOTH
@METHODS
@pytest.mark.parametrize("batch", [1, 3])
def test_answers_are_those_of_the_engine_in_order(make_lm, ask, tokenizers, method, batch):
    pair = small_pair(tokenizers)
    wanted = {"until": [" blue", "way"], "max_gen_toks": 9}
    found = ask(
        make_lm(pair, batch, method=method),
        "generate_until",
        *((text, wanted) for text in ASKED),
    )
    for text, answer in zip(ASKED, found, strict=True):
        both = (Prompt("", tuple(one.vocabulary.encode(text))) for one in (pair.base, pair.aligned))
        parts = stream_generate(
            pair, PairPrompt(*both), method=method, max_tokens=9, stop=wanted["until"]
        )
        assert answer == "".join(part.text for part in parts)


def test_sampled_answers_differ_and_come_again(make_lm, ask):
    wanted = {"do_sample": True, "temperature": 1.5, "top_k": 40, "until": [], "max_gen_toks": 12}
    requests = [("The sea is", wanted)] * 4
    found = ask(make_lm(), "generate_until", *requests)
    assert len(set(found)) > 1
    assert ask(make_lm(), "generate_until", *requests) == found
    greedy = {**wanted, "do_sample": False}
    assert len(set(ask(make_lm(), "generate_until", *[("The sea is", greedy)] * 3))) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("num_beams", 4), ("stop", ["x"]), ("repetition_penalty", 1.1)]
)
def test_what_a_task_may_not_ask_for_is_named(make_lm, ask, name, value):
    import click

    with pytest.raises(click.ClickException, match=f"{name}="):
        ask(make_lm(), "generate_until", ("The sea", {"until": [], name: value}))


def test_what_asks_for_nothing_is_taken(make_lm, ask):
    plain = {"until": "\n", "max_gen_toks": 4}
    told = {**plain, "num_beams": 1, "repetition_penalty": 1.0, "do_sample": False}
    found = [ask(make_lm(), "generate_until", ("The sea", one)) for one in (plain, told)]
    assert found[0] == found[1]


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi [you]"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": 'What is "the sea"? ]'},
]


@BOTH
@METHODS
def test_in_a_chat_each_model_reads_its_own_template(make_lm, ask, tokenizers, method):
    pair = small_pair(tokenizers)
    lm = make_lm(pair, method=method)
    ((total, _),) = ask(lm, "loglikelihood", (lm.apply_chat_template(MESSAGES), "The sky"))
    prompt = build_prompt(pair, MESSAGES)
    assert b"Be brief." in pair.base.vocabulary.bytes_of(prompt.base.ids)
    expected = score(pair, prompt, "The sky", method=method, complete=False).total
    assert total == pytest.approx(expected, abs=1e-3)


def test_a_chat_answer_is_that_of_the_engine(make_lm, ask):
    pair = small_pair(2)
    lm = make_lm(pair)
    context = lm.apply_chat_template(MESSAGES)
    (found,) = ask(lm, "generate_until", (context, {"until": [], "max_gen_toks": 9}))
    parts = stream_generate(pair, build_prompt(pair, MESSAGES), max_tokens=9)
    assert found == "".join(part.text for part in parts)


def test_a_begun_answer_goes_on(make_lm, ask):
    pair = small_pair(1)
    lm = make_lm(pair, method="base")
    begun = [*MESSAGES, {"role": "assistant", "content": "The sea"}]
    context = lm.apply_chat_template(begun, add_generation_prompt=False)
    ((total, _),) = ask(lm, "loglikelihood", (context, " is blue"))
    whole = score(pair, build_prompt(pair, MESSAGES), "The sea is blue", method="base")
    own = len(pair.base.vocabulary.encode(" is blue"))
    assert total == pytest.approx(sum(whole.log_probs[:-1][-own:]), abs=1e-3)


def test_only_the_assistant_begins_an_answer(make_lm):
    with pytest.raises(PromptError, match="only a message of the assistant"):
        make_lm().apply_chat_template(MESSAGES, add_generation_prompt=False)


@given(
    st.lists(st.text(), min_size=1, max_size=3),
    st.one_of(st.none(), st.text()),
    st.text(),
)
def test_conversations_survive_being_a_string(said, begun, appended):
    messages = [{"role": "user", "content": text} for text in said]
    history = messages if begun is None else [*messages, {"role": "assistant", "content": begun}]
    read = conversation_of(as_context(history) + appended)
    assert read == (messages, (begun or "") + appended)


@given(st.text())
def test_plain_texts_are_no_conversations(text):
    assert conversation_of(text) is None


def test_interventions_are_counted(make_lm, ask):
    lm = make_lm(method="ensemble")
    ask(lm, "loglikelihood", *((CONTEXT, option) for option in OPTIONS))
    info = lm.get_model_info()
    assert info["tokens"] == sum(
        len(lm._session.pair.base.vocabulary.encode(option)) for option in OPTIONS
    )
    assert info["intervention_rate"] == info["interventions"] / info["tokens"] > 0.5
    alone = make_lm(method="aligned")
    ask(alone, "loglikelihood", (CONTEXT, " The sea"))
    assert alone.get_model_info()["intervention_rate"] == 1
    assert make_lm(method="base").get_model_info()["intervention_rate"] is None


def test_both_tokenizers_are_named(make_lm):
    assert make_lm(Pair(small_model(1, 1), small_model(2, 2))).tokenizer_name.count("__") == 1
