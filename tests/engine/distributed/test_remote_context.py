"""A guide on another machine: the same tokens, from the same passes, one exchange for each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.batch.batch_decoder import BatchDecoder
from blendin_mlx.blend.methods import METHODS
from blendin_mlx.distributed.channel import Channel, Kind
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.drafting.pass_costs import Costs
from blendin_mlx.errors import MachineError, PromptError
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import fingerprint, make_prompt_cache, save_prompt_cache
from blendin_mlx.reading.context import Context
from blendin_mlx.reading.opening import open_context
from blendin_models import pass_costs
from small_pairs import small_pair
from tiny import tiny_model
from two_machines import guided_from_afar

PROMPT = "hello world, the sky is blue"


def answered(pair, method="blendin", draft="off", **options):
    """The tokens of an answer, and what it took."""
    drafter = Drafter(draft, num_draft_tokens=3) if draft != "off" else "off"
    *_, last = stream_generate(
        pair, PROMPT, method=method, draft=drafter, max_tokens=24, stop_policy="guide", **options
    )
    result = last.statistics.as_json()
    for name in ("timing", "memory"):
        del result[name]
    return result


@pytest.mark.parametrize("tokenizers", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_what_it_writes_on_one_machine(method, tokenizers):
    pair = small_pair(tokenizers)
    alone = answered(pair, method)
    with guided_from_afar(pair) as apart:
        assert answered(apart, method) == alone
    assert alone["usage"]["completion_tokens"] == 24 or alone["finish_reason"] == "stop"


@pytest.mark.parametrize("draft", ["guide", "lookup", "auto"])
def test_the_guide_drafts_from_there(draft):
    pair = small_pair(2)
    alone = answered(pair, draft=draft)
    with guided_from_afar(pair) as apart:
        assert answered(apart, draft=draft) == alone
    assert alone["passes"]["aligned"] > 0


@pytest.mark.parametrize("architecture", ["gemma3_text", "mamba2", "lfm2", "falcon_h1"])
def test_caches_that_cannot_be_rewound_there_are_read_again_there(architecture):
    pair = guided_by(architecture)
    alone = answered(pair, draft="guide")
    with guided_from_afar(pair) as apart:
        assert answered(apart, draft="guide") == alone


def guided_by(architecture):
    """A pair whose guide is of this architecture."""
    pair = small_pair()
    options = {"sliding_window": 16} if architecture == "gemma3_text" else {}
    stop = next(iter(pair.base.stop_ids))
    guide = tiny_model(
        pair.aligned.tokenizer, architecture, seed=5, sharpness=2.5, eos=[stop], **options
    )
    return Pair(pair.base, guide)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.lists(st.integers(0, 99), max_size=45), st.integers(1, 3)),
        st.tuples(st.just("rewind"), st.floats(0, 1)),
        st.tuples(st.just("prefill"), st.lists(st.integers(0, 99), max_size=45)),
        st.tuples(st.just("after"), st.lists(st.integers(0, 99), min_size=1, max_size=30)),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("afar", "kv_bits"),
    [("llama", None), ("llama", 8), ("gemma3_text", None), ("lfm2", None)],
    indirect=["afar"],
)
@given(steps=STEPS)
@settings(max_examples=25)
def test_a_context_there_is_a_context_here(afar, kv_bits, steps):
    pair, apart = afar
    # Where a cache went back further than it was told, the steps of a prefill are cut elsewhere.
    step = 16 if Context(pair.aligned).rewinds_by == "trim" else 64
    here = Context(pair.aligned, kv_bits=kv_bits, prefill_step_size=step)
    there = open_context(apart.aligned, kv_bits=kv_bits, prefill_step_size=step)
    for name, *details in steps:
        results = []
        for context in (here, there):
            if name == "rewind":
                context.rewind(int(details[0] * len(context.tokens)))
            elif name == "read" and len(context.tokens) + len(details[0]) >= details[1]:
                results.append(context.read(*details))
            elif name == "prefill":
                context.prefill(details[0])
            elif name == "after":
                results.append(context.after(details[0]))
        if results:
            assert np.array_equal(*map(np.array, results))
        assert here.tokens == there.tokens
        assert (here.passes, here.rereads) == (there.passes, there.rereads)
        assert here.can_trim(len(here.tokens) + 3) == there.can_trim(len(there.tokens) + 3)
        assert here.rewinds_by == there.rewinds_by


@pytest.fixture(scope="module")
def afar(request):
    """A pair, and the same with its guide behind a socket."""
    pair = guided_by(getattr(request, "param", "llama"))
    with guided_from_afar(pair) as apart:
        yield pair, apart


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_logits_arrive_bit_by_bit(dtype):
    pair = small_pair()
    guide = tiny_model(pair.aligned.tokenizer, seed=3)
    guide.network.set_dtype(dtype)
    mx.eval(guide.network.parameters())
    alone = Context(guide).read([1, 2, 3], rows=2)
    with guided_from_afar(Pair(pair.base, guide)) as apart:
        logits = open_context(apart.aligned).read([1, 2, 3], rows=2)
    assert logits.dtype == alone.dtype == dtype
    assert np.array_equal(*(np.array(one.view(mx.uint8)) for one in (logits, alone)))


def test_a_pass_is_one_exchange_and_a_rewind_none(afar, monkeypatch):
    sent = []

    def counted(self, kind, *rest, send=Channel.send, **named):
        sent.append(kind)
        send(self, kind, *rest, **named)

    monkeypatch.setattr(Channel, "send", counted)
    context = open_context(afar[1].aligned)
    context.read([0])
    sent.clear()
    context.read(list(range(1, 60)))  # more than one pass reads at once
    context.rewind(20)
    context.move_to([0, 1, 2, 9, 9])
    assert sent == [Kind.READ, Kind.LOGITS]
    context.after([0, 1, 2, 9, 9])
    assert sent == 2 * [Kind.READ, Kind.LOGITS]


def test_contexts_that_nobody_holds_are_closed_there(monkeypatch):
    dropped = []

    def noted(self, kind, *rest, send=Channel.send, **named):
        if kind is Kind.DROP:
            dropped.append(named["first"])
        send(self, kind, *rest, **named)

    monkeypatch.setattr(Channel, "send", noted)
    with guided_from_afar(small_pair()) as apart:
        for _ in range(3):
            open_context(apart.aligned).read([1])
        open_context(apart.aligned).read([1])
    assert dropped == [1, 2, 3]


def test_an_answer_that_was_given_up_is_not_taken_for_the_next_one(afar, monkeypatch):
    pair, apart = afar
    context = open_context(apart.aligned)
    leader = apart.aligned.elsewhere.leader
    with monkeypatch.context() as patched:
        patched.setattr(leader, "_next", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            context.read([1, 2, 3])
    context.rewind(0)
    expected = Context(pair.aligned).read([4, 5])
    assert np.array_equal(np.array(context.read([4, 5])), np.array(expected))


def test_what_is_known_there_is_asked_there(afar):
    pair, apart = afar
    assert fingerprint(apart.aligned) == fingerprint(pair.aligned)


def test_many_answers_are_written_one_after_the_other(afar):
    decoder = BatchDecoder(afar[1])
    assert decoder.obstacle == f"the network of {afar[0].aligned.name} is on another machine"


def test_what_passes_cost_over_a_network_is_kept_apart(afar, monkeypatch, tmp_path):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    here, there = Costs(((1, 0.1),), 0.1), Costs(((1, 0.1),), 0.2, meanwhile=True)
    measured = {id(afar[0]): here, id(afar[1]): there}
    monkeypatch.setattr(pass_costs, "measure", lambda pair: measured.pop(id(pair)))
    for _ in range(2):
        assert [pass_costs.kept_costs(pair) for pair in afar] == [here, there]


def test_what_cannot_be_is_refused_before_it_is_sent(afar, tmp_path):
    _, apart = afar
    context = open_context(apart.aligned)
    with pytest.raises(PromptError, match="has no token 100000"):
        context.read([100_000])
    with pytest.raises(MachineError, match="is on rank 1"):
        save_prompt_cache(tmp_path / "kept.safetensors", make_prompt_cache(apart))
    assert len(open_context(apart.aligned).read([1])) == 1
