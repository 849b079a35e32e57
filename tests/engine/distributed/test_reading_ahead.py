"""The guide reads while the base computes: nothing changes but the time."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.distributed.channel import Channel, Frame, Kind
from blendin_mlx.distributed.expectations import MOST_OVERTAKING, PATIENCE, Expectations, Rows
from blendin_mlx.distributed.follower import Follower
from blendin_mlx.distributed.leader import Leader
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.drafting.pass_costs import reads_meanwhile
from blendin_mlx.drafting.proposers import LookupProposer
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.reading.context import HEAD_ROWS, SNAPSHOTS
from blendin_mlx.reading.guide import Guide
from blendin_mlx.reading.opening import open_context
from blendin_mlx.tokens.answer_text import AnswerText
from counting import CountingNetwork
from scripted import scripted_tokenizer
from small_pairs import small_pair
from tiny import tiny_model
from two_machines import channels, guided_from_afar

PROMPT = "hello world, the sky is blue"


def answered(pair, method="blendin", draft="off"):
    """The tokens of an answer, and what it took."""
    drafter = Drafter(draft, num_draft_tokens=3) if draft != "off" else "off"
    *_, last = stream_generate(
        pair, PROMPT, method=method, draft=drafter, max_tokens=24, stop_policy="guide"
    )
    result = last.statistics.as_json()
    for name in ("timing", "memory"):
        del result[name]
    return result


@pytest.fixture
def told(monkeypatch):
    """Counts what rank 0 sends, by kind."""
    counts = Counter()

    def counted(self, kind, *rest, send=Channel.send, **named):
        counts[kind] += 1
        send(self, kind, *rest, **named)

    monkeypatch.setattr(Channel, "send", counted)
    return counts


@pytest.fixture
def late(monkeypatch):
    """Counts questions whose pass was not run before; every pass that can be is run ahead."""
    counts = Counter()

    def counted(self, message, answer=Expectations.answer):
        before, run = message.first in self._done, self._run
        self._run = lambda one: counts.update(["before" if before else "never"]) or run(one)
        try:
            return answer(self, message)
        finally:
            self._run = run

    monkeypatch.setattr(Expectations, "answer", counted)
    monkeypatch.setattr(Channel, "comes", lambda self, within_s: False)
    return counts


@pytest.mark.parametrize("tokenizers", [1, 2])
@pytest.mark.parametrize("method", ["blendin", "nudging", "ensemble", "proxy-tuning", "kad"])
def test_all_that_is_asked_was_read_ahead_and_is_that_of_one_machine(method, tokenizers, late):
    pair = small_pair(tokenizers)
    alone = answered(pair, method)
    with guided_from_afar(pair) as apart:
        assert answered(apart, method) == alone
    assert alone["passes"]["aligned"] > 0
    assert late == {"never": 2 if method == "proxy-tuning" else 1}  # the prompts


@pytest.mark.parametrize("draft", ["guide", "lookup"])
def test_drafts_are_those_of_one_machine_and_only_before_a_pass_is_the_guide_told(
    draft, late, told, monkeypatch
):
    pair = small_pair(2)
    right = answered(pair)["token_ids"]
    monkeypatch.setattr(
        LookupProposer, "propose", lambda self, answer, count: right[len(answer.ids) :][:count]
    )
    alone = answered(pair, draft=draft)
    assert alone["draft"]["accepted"]
    with guided_from_afar(pair) as apart:
        assert answered(apart, draft=draft) == alone
    assert told[Kind.EXPECT] <= alone["passes"]["base"] < 24


def test_a_pass_with_a_draft_is_the_one_asked_for(late):
    with guided_from_afar(small_pair()) as apart:
        context = open_context(apart.aligned)
        context.read([1])
        late.clear()
        context.expect([1, 2, 3], [4, 5])
        context.after([1, 2, 3], [4, 5])
        assert not late


def test_a_word_that_was_begun_is_read_ahead_and_half_a_character_is_not(late, told):
    tokenizers = scripted_tokenizer(("it",)), scripted_tokenizer(("it", "'s", "'t"))
    base, guide = (tiny_model(one, seed=n, eos=[0]) for n, one in enumerate(tokenizers))
    with guided_from_afar(Pair(base, guide)) as apart:
        reader = Guide(open_context(apart.aligned), apart.projection(), [1, 2])
        reader.context.prefill([1])
        answer = AnswerText(base.vocabulary)
        for token in base.vocabulary.encode("it'"):
            answer.append(token)
        assert reader.begun(answer)
        reader.expect(answer)
        reader.advise(answer)
        assert late == {"never": 1}  # the prompt
        for half in (b"a", b"\xc3"):
            answer.append(base.vocabulary.by_bytes[half])
        reader.expect(answer)
    assert told[Kind.EXPECT] == 1


WORDS = st.lists(st.integers(0, 99), min_size=1, max_size=9)
TURNS = st.lists(
    st.tuples(
        WORDS,  # what is written
        st.lists(WORDS, max_size=2),  # what may follow it: as a draft, and something else
        st.sampled_from(["asked", "asked with a draft", "not asked", "taken back"]),
    ),
    min_size=1,
    max_size=9,
)


@pytest.fixture(scope="module")
def afar(request):
    pair = small_pair()
    options = {"sliding_window": 16} if request.param == "gemma3_text" else {}
    guide = tiny_model(pair.aligned.tokenizer, request.param, seed=5, **options)
    with guided_from_afar(Pair(pair.base, guide)) as apart:
        yield guide, apart.aligned


@pytest.mark.parametrize(
    ("afar", "kv_bits"),
    [("llama", None), ("llama", 8), ("gemma3_text", None), ("lfm2", None)],
    indirect=["afar"],
)
@given(turns=TURNS, seed=st.integers(0, 99), busy=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=30)
def test_whatever_is_read_ahead_the_logits_are_bit_by_bit_the_same(
    afar, kv_bits, turns, seed, busy
):
    chance = random.Random(seed)
    here, there = (open_context(model, kv_bits=kv_bits, prefill_step_size=16) for model in afar)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Channel, "comes", lambda self, within_s: chance.random() < busy)
        text = [1]
        for context in (here, there):
            context.read(text)
        for written, others, then in turns:
            text = [*text, *written]
            for draft in others:
                there.expect(text, draft)
                there.expect([*text, *draft])
            there.expect(text)
            if then == "taken back":
                text = text[: len(text) // 2 + 1]
            if then.startswith("asked"):
                draft = others[0] if others and then != "asked" else []
                one, other = (context.after(text, draft) for context in (here, there))
                assert np.array_equal(np.array(one), np.array(other))
            assert here.tokens == there.tokens
            assert (here.passes, here.rereads) == (there.passes, there.rereads)


@pytest.mark.parametrize("expected", [[[7]], [[5], [6], [7]]], ids=["one", "several"])
def test_what_a_full_window_goes_back_to_is_what_it_was_without(expected, monkeypatch):
    pair = small_pair()
    guide = tiny_model(pair.aligned.tokenizer, "gemma3_text", seed=5, sliding_window=64)
    monkeypatch.setattr(Channel, "comes", lambda self, within_s: False)
    with guided_from_afar(Pair(pair.base, guide)) as apart:
        here, there = map(open_context, (guide, apart.aligned))
        text = [1]
        for context in (here, there):
            context.read(text)
        for written in range(SNAPSHOTS):
            for one in expected:
                there.expect([*text, *one])
            text.append(written)
            for context in (here, there):
                context.after(text)
        for then in ([*text, *range(70)], [*text[:4], 9, 9]):
            one, other = (np.array(context.after(then)) for context in (here, there))
            assert np.array_equal(one, other)
        assert here.rereads == there.rereads


@pytest.mark.parametrize("method", ["blendin", "ensemble"])
def test_the_guide_is_told_before_the_base_computes_and_asked_while_it_does(method, monkeypatch):
    pair = small_pair()
    events = []
    messages = {Kind.EXPECT: "told", Kind.READ: "asked"}

    def sent(self, kind, *rest, send=Channel.send, **named):
        events.extend([messages[kind]] if kind in messages else [])
        send(self, kind, *rest, **named)

    def computing(*arrays, start=mx.async_eval):
        events.append("computes")
        start(*arrays)

    with guided_from_afar(pair) as apart:
        steps = stream_generate(apart, PROMPT, method=method, max_tokens=12, stop_policy="blend")
        next(steps)  # the prompts are read
        monkeypatch.setattr(Channel, "send", sent)
        monkeypatch.setattr(mx, "async_eval", computing)
        for _ in steps:
            pass
    assert "asked" in events
    assert events.count("told") == events.count("computes")
    rounds = " ".join(events).replace("told computes", ".").split()
    assert set(rounds) == {".", "asked"}
    assert "asked asked" not in " ".join(rounds)


def test_on_one_machine_nobody_is_told(monkeypatch):
    monkeypatch.setattr("blendin_mlx.reading.guide.Guide.expect", None)
    monkeypatch.setattr(mx, "async_eval", None)
    answered(small_pair())


def test_only_what_can_be_undone_without_a_trace_is_told(told):
    pair = small_pair()
    with guided_from_afar(pair) as apart:
        context = open_context(apart.aligned)
        context.read([1, 2, 3])
        for tokens in ([1, 2, 3], [1, 2], [1, 2, 4, 5], [1, 2, 3, *range(HEAD_ROWS + 1)]):
            context.expect(tokens)
        open_context(apart.aligned).expect([1, 2])
        assert not told[Kind.EXPECT]
        assert reads_meanwhile(apart)
        assert not reads_meanwhile(pair)
        context.expect([1, 2, 3, *range(HEAD_ROWS)])
        context.expect([1, 2, 3, 4], list(range(HEAD_ROWS - 1)))
        assert told[Kind.EXPECT] == 2
        assert context.tokens == [1, 2, 3]


@pytest.mark.parametrize("architecture", ["mamba2", "lfm2", "falcon_h1"])
def test_a_cache_that_would_have_to_read_again_reads_nothing_ahead(architecture, told):
    pair = small_pair()
    guide = tiny_model(pair.aligned.tokenizer, architecture, seed=5)
    with guided_from_afar(Pair(pair.base, guide)) as apart:
        answered(apart)
        assert not reads_meanwhile(apart)
    assert told[Kind.READ]
    assert not told[Kind.EXPECT]


def test_a_sliding_window_is_read_ahead_until_it_is_full(told):
    pair = small_pair()
    guide = tiny_model(pair.aligned.tokenizer, "gemma3_text", seed=5, sliding_window=16)
    with guided_from_afar(Pair(pair.base, guide)) as apart:
        assert reads_meanwhile(apart)
        context = open_context(apart.aligned)
        text = list(range(12))
        context.read(text)
        for length in (1, 4, 3):
            context.expect([*text, *range(length)])
        assert told[Kind.EXPECT] == 2
        context.after([*text, 1, 2, 3, 4])
        context.expect([*context.tokens, 5])
        assert told[Kind.EXPECT] == 2


def test_a_question_is_not_held_up_by_what_waits(monkeypatch):
    """What came before it is not read; and of several that nothing follows, the last one is."""
    model = small_pair().aligned
    counting = CountingNetwork(model.network)
    monkeypatch.setattr(model, "network", counting)
    with channels() as (here, there):
        leader = Leader(here)

        def tell(*lengths):
            for length in lengths:
                leader.expect(1, 0, range(length), 1)

        def ask(length):
            keep_and_ids = np.array([0, *range(length)], np.int32).tobytes()
            here.send(Kind.READ, 1, 1, 1, keep_and_ids)

        here.send(Kind.OPEN, 0, 1, 0, np.array([0, 16], np.int32).tobytes())
        tell(2, 3)
        ask(4)
        tell(2, 5, 6)
        follower = Follower(there, {"aligned": model})
        ahead = follower._expectations.run_one

        def then_asked():
            ahead()
            ask(6)
            here.send(Kind.BYE)

        monkeypatch.setattr(follower._expectations, "run_one", then_asked)
        follower.serve()
    assert counting.calls == [4, 6]


class Pass:
    """Expectations whose passes last so many passes of the base, and how many were run."""

    def __init__(self):
        self.runs = 0
        self.expectations = Expectations(self._run, lambda number: None)

    def _run(self, message):
        self.runs += 1
        return Rows()

    def write(self, tokens, lasting):
        """Let the base write, and each pass ahead last so many of its passes."""
        left = 0
        for token in range(tokens):
            self.expectations.add(Frame(Kind.EXPECT, 0, 1, 1, bytes([token])))
            left -= 1
            if left <= 0 and self.expectations.wait:
                if lasting <= 1:
                    self.expectations.was_in_time()
                self.expectations.run_one()
                left = lasting


@pytest.mark.parametrize("lasting", [1, 2])
def test_passes_ahead_that_pay_go_on(lasting):
    slow = Pass()
    slow.write(100, lasting)
    assert slow.runs == 100 // lasting


@pytest.mark.parametrize("lasting", [MOST_OVERTAKING, 5, 20])
def test_passes_ahead_that_last_too_long_are_tried_more_and_more_seldom(lasting):
    slow = Pass()
    wait = PATIENCE
    for tries in (3, 6, 9):
        slow.write(1 + 2 * lasting + MOST_OVERTAKING, lasting)
        assert slow.runs == tries
        slow.write(wait - 1, lasting)
        assert slow.runs == tries
        wait *= 2


def test_what_was_slow_now_and_then_goes_on():
    slow = Pass()
    for _ in range(9):
        slow.write(12, 5)
        slow.write(2, 1)
    assert slow.runs > 9


@pytest.mark.parametrize("run", [True, False])
@pytest.mark.parametrize("asked", [bytes([2]), bytes([3]), None])
def test_what_was_expected_ends_with_the_next_question(asked, run):
    runs = []
    expectations = Expectations(
        lambda message: runs.append(1) or Rows(0, bytes(message.payload)), lambda number: None
    )
    expectations.add(Frame(Kind.EXPECT, 0, 7, 1, bytes([2])))
    if run:
        expectations.run_one()
    if asked is None:
        expectations.forget(7)
    else:
        assert expectations.answer(Frame(Kind.READ, 5, 7, 1, asked)).numbers == asked
    assert not expectations.wait
    runs.clear()
    expectations.answer(Frame(Kind.READ, 6, 7, 1, bytes([2])))
    assert runs
