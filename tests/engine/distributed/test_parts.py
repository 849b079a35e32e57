"""A base in several places: all read what rank 0 reads, and whatever ends one ends all.

Each place has the whole network here, so that nothing is summed; the ring itself is in the tests of
the command.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendin_mlx.distributed.channel import Channel, Frame, Kind
from blendin_mlx.distributed.follower import Contexts
from blendin_mlx.distributed.leader import Leader
from blendin_mlx.distributed.remote_context import RemoteModel
from blendin_mlx.distributed.split_base import Part, Parts, serve_part
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.errors import MachineError
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.reading.context import Context
from blendin_mlx.reading.opening import open_context
from small_pairs import small_pair
from terminals import DEADLINE_S
from tiny import tiny_model
from two_machines import channels, served

PROMPT = "hello world, the sky is blue"


@contextmanager
def logging():
    """What each place is left with by each request, the places in their order; one reads a time."""
    notes, turn = {}, threading.Lock()

    def answer(self, message, answer=Contexts.answer):
        with turn:
            answer(self, message)
        held = self._contexts.get(message.first)
        notes.setdefault(self, SimpleQueue()).put((message.kind, held and list(held.tokens)))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Contexts, "answer", answer)
        yield notes


@pytest.fixture
def logged():
    with logging() as notes:
        yield notes


def assert_all_did_the_same(logged):
    """Every place was left with the same tokens by every request."""
    (own,) = (place for place in logged if type(place) is not Contexts)
    notes = [logged[own].get() for _ in range(logged[own].qsize())]
    assert notes
    for place in logged.keys() - {own}:
        assert [logged[place].get(timeout=DEADLINE_S) for _ in notes] == notes


@contextmanager
def split(pair, others=2):
    """A pair whose base is read by this thread's part and by others."""
    errors = []
    with ExitStack() as stack:
        ends = [
            stack.enter_context(served(lambda there: serve_part(there, pair.base, errors.append)))
            for _ in range(others)
        ]
        parts = Parts(ends, DEADLINE_S)
        leader = Leader(parts)
        lengths = leader.wait_until_loaded()
        parts.begin(pair.base)
        place = RemoteModel(leader, "base", lengths["base"])
        base = replace(pair.base, network=None, elsewhere=place)
        base.logit_size, base.rows = pair.base.logit_size, pair.base.rows
        yield replace(pair, base=base)
    assert not errors


def answered(pair, method="blendin", draft="off"):
    drafter = Drafter(draft, num_draft_tokens=3) if draft != "off" else "off"
    *_, last = stream_generate(
        pair, PROMPT, method=method, draft=drafter, max_tokens=24, stop_policy="guide"
    )
    return last.statistics.token_ids, last.statistics.as_json()["passes"]


@pytest.mark.parametrize(
    ("method", "draft"),
    [("blendin", "off"), ("blendin", "guide"), ("base", "lookup"), ("proxy-tuning", "off")],
)
def test_an_answer_is_that_of_one_machine_and_all_read_it(logged, method, draft):
    pair = small_pair(2)
    alone = answered(pair, method, draft)
    with split(pair) as apart:
        assert answered(apart, method, draft) == alone
    assert len(logged) == 3
    assert_all_did_the_same(logged)


@pytest.mark.parametrize("architecture", ["gemma3_text", "lfm2"])
def test_caches_that_cannot_be_rewound_are_read_again_in_all_places(logged, architecture):
    pair = small_pair()
    options = {"sliding_window": 16} if architecture == "gemma3_text" else {}
    base = tiny_model(pair.base.tokenizer, architecture, seed=5, sharpness=2.5, **options)
    pair = Pair(base, pair.aligned)
    alone = answered(pair, draft="guide")
    with split(pair) as apart:
        assert answered(apart, draft="guide") == alone
    assert_all_did_the_same(logged)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["read", "prefill", "rewind"]),
        st.lists(st.integers(0, 99), min_size=1, max_size=45),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(steps=STEPS)
@settings(max_examples=20)
def test_an_interrupt_leaves_all_in_step(steps):
    pair = small_pair()
    with logging() as notes:
        with split(pair, others=1) as apart:
            context = open_context(apart.base, prefill_step_size=16)
            leader = apart.base.elsewhere.leader
            for name, ids, interrupted in steps:
                wanted = ids[: len(context.tokens)] if name == "rewind" else context.tokens + ids
                with pytest.MonkeyPatch.context() as pressed:
                    if interrupted:
                        pressed.setattr(leader, "_next", interrupt)
                    try:
                        if name == "rewind":
                            context.move_to(wanted)
                        elif name == "read":
                            context.read(ids)
                        else:
                            context.prefill(ids)
                    except KeyboardInterrupt:
                        assert interrupted
            last = np.array(context.after([*context.tokens[:5], 1, 2]))
            expected = Context(pair.base).read(context.tokens)
            assert np.abs(last - np.array(expected)).max() < 1e-4
        assert_all_did_the_same(notes)


def interrupt():
    raise KeyboardInterrupt


def test_an_error_elsewhere_is_named(monkeypatch):
    with channels() as (here, there), channels() as (other, _):
        here.peer, other.peer = "rank 1 (one)", "rank 2 (two)"
        leader = Leader(Parts([here, other], DEADLINE_S))
        there.send(Kind.ERROR, payload=b"a file is damaged")
        for _ in range(2):
            with pytest.raises(MachineError, match=r"^rank 1 \(one\): a file is damaged$"):
                leader.ask(Kind.READ)
        assert str(leader.lost(0)) == "rank 1 (one): a file is damaged"


def test_all_must_be_ready():
    with channels() as (here, there), channels() as (other, another):
        leader = Leader(Parts([here, other], 0.05))
        there.describe(Kind.READY, {"base": 5})
        with pytest.raises(MachineError, match=r"^one of ranks 1 to 2 has made no progress for 0"):
            leader.wait_until_loaded()
        another.describe(Kind.READY, {"base": 5})
        leader.channel.patience_s = DEADLINE_S
        assert leader.wait_until_loaded() == {"base": 5.0}


def test_the_others_are_told_though_one_is_lost():
    with channels() as (here, there), channels() as (other, another):
        parts = Parts([here, other], DEADLINE_S)
        there.close()
        with pytest.raises(MachineError, match="rank 1 ended"):
            parts.send(Kind.BYE, first=3)
        assert another.receive().first == 3


@pytest.mark.parametrize("error", [RuntimeError("[ring] lost"), ValueError("wrong")])
def test_a_part_that_fails_says_so_unless_a_machine_was_lost(error):
    said = []

    def work(request):
        raise error

    part = Part(work, said.append)
    for _ in range(2):
        part.give(Frame(Kind.READ))
    part._thread.join(DEADLINE_S)
    assert part.busy
    assert said == ([] if "[ring]" in str(error) else [error])


def test_a_pass_that_does_not_end_is_noticed(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(Contexts, "answer", lambda self, message: ended.wait(DEADLINE_S))
    with channels(0.02) as (here, there):
        here.send(Kind.READ)
        with pytest.raises(MachineError, match=r"rank 0 has made no progress for 0\.04 seconds"):
            serve_part(there, small_pair().base, lambda error: None)
        ended.set()


def test_rank_0_may_wait_for_a_person_as_long_as_it_takes(monkeypatch):
    waits = []

    def comes(self, within_s, comes=Channel.comes):
        waits.append(within_s)
        return comes(self, within_s)

    monkeypatch.setattr(Channel, "comes", comes)
    with channels() as (here, there):
        here.send(Kind.BYE, first=5)
        assert serve_part(there, small_pair().base, lambda error: None) == 5
    assert waits == [None]
