"""Messages: whole, bounded, and never waited for without end."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.distributed.channel import HEADER, Channel, Kind
from blendin_mlx.distributed.leader import Leader
from blendin_mlx.distributed.meeting import join, receive_others
from blendin_mlx.errors import MachineError
from two_machines import channels, free_port

NUMBERS = st.integers(0, 2**32 - 1)


@given(kind=st.sampled_from(Kind), numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS), data=st.binary())
def test_a_message_arrives_as_it_was_sent(kind, numbers, data):
    with channels() as (here, there):
        here.send(kind, *numbers, payload=data)
        message = there.receive()
    assert (message.kind, message.serial, message.first, message.second) == (kind, *numbers)
    assert message.payload == data


def test_a_large_message_passes_though_nobody_reads_at_first():
    data = bytes(range(256)) * 2**14
    with channels() as (here, there):
        sender = threading.Thread(target=here.send, args=(Kind.LOGITS,), kwargs={"payload": data})
        sender.start()
        assert there.receive().payload == data
        sender.join()


@pytest.mark.parametrize(
    "sent",
    [
        HEADER.pack(99, 0, 0, 0, 0),
        HEADER.pack(Kind.HELLO, 0, 0, 0, 2**20),
        HEADER.pack(Kind.LOGITS, 0, 0, 0, 2**32 - 1),
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    ],
    ids=["kind", "description", "logits", "http"],
)
def test_what_is_not_a_message_is_refused_before_it_is_read(sent):
    one, other = socket.socketpair()
    with one, other:
        one.sendall(sent)
        with pytest.raises(MachineError, match="rank 1 does not speak blendin's language"):
            Channel(other, "rank 1", 60).receive()


@pytest.mark.parametrize("sent", [b"", HEADER.pack(Kind.TEXT, 0, 0, 0, 3)[:7]])
def test_the_end_of_the_other_one_is_an_error(sent):
    one, other = socket.socketpair()
    with other:
        one.sendall(sent)
        one.close()
        with pytest.raises(MachineError, match="rank 1 ended, so this one ends too"):
            Channel(other, "rank 1", 60).receive()


def test_a_message_that_stands_still_is_an_error():
    one, other = socket.socketpair()
    with one, other:
        one.sendall(HEADER.pack(Kind.TEXT, 0, 0, 0, 3) + b"ab")
        with pytest.raises(MachineError, match=r"no progress for 0\.01 seconds"):
            Channel(other, "rank 1", 0.01).receive()


def test_an_answer_that_does_not_come_is_an_error():
    with channels(patience_s=0.01) as (here, _), pytest.raises(MachineError, match="no progress"):
        Leader(here).ask(Kind.READ)


def test_what_the_other_one_does_not_take_is_an_error():
    with channels(patience_s=0.01) as (here, _), pytest.raises(MachineError, match="no progress"):
        here.send(Kind.LOGITS, payload=bytes(2**24))


def test_after_the_other_one_is_lost_every_question_says_so():
    with channels() as (here, there):
        leader = Leader(here)
        there.close()
        for _ in range(2):
            with pytest.raises(MachineError, match="rank 1 ended"):
                leader.ask(Kind.READ)


def test_another_version_is_refused(monkeypatch):
    address = "127.0.0.1", free_port()
    joined, asking = [], threading.current_thread()
    with monkeypatch.context() as patched:
        patched.setattr(
            "blendin_mlx.distributed.meeting.versions",
            lambda: {"mlx": "0.2" if threading.current_thread() is asking else "0.1"},
        )
        joining = threading.Thread(target=lambda: joined.append(join(address, 300)))
        joining.start()
        with pytest.raises(MachineError, match=r"has mlx 0\.1, not 0\.2; install"):
            receive_others(address, 300)
        joining.join()
    joined[0].close()


def test_nobody_to_meet_is_an_error():
    address = "127.0.0.1", free_port()
    with pytest.raises(MachineError, match="rank 1 did not come"):
        receive_others(address, 0.01)
    with pytest.raises(MachineError, match="rank 0 cannot be reached"):
        join(address, 0.01)
    with socket.create_server(address), pytest.raises(MachineError, match="--starting-port"):
        receive_others(address, 0.01)


def test_a_socket_that_reached_itself_is_not_rank_0(monkeypatch):
    address = "127.0.0.1", free_port()
    itself = socket.socket()
    itself.bind(address)
    itself.connect(address)
    found = [itself]
    reach = socket.create_connection
    monkeypatch.setattr(
        socket, "create_connection", lambda *a, **k: found.pop() if found else reach(*a, **k)
    )
    with pytest.raises(MachineError, match="rank 0 cannot be reached"):
        join(address, 0.01)
    assert itself.fileno() == -1
