"""The queue before the models: bounded, in order, and nobody is left waiting."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.serve.engine import Done, Engine, Failure, Result, Ticket
from blendin_cli.serve.errors import ApiError
from serving import running


class Client:
    """Collects the events of one ticket."""

    def __init__(self, work, quick=False):
        self.events = []
        self.ticket = Ticket(work, self.events.append, quick)

    @property
    def results(self):
        return [event.value for event in self.events if isinstance(event, Result)]

    @property
    def last(self):
        assert sum(isinstance(event, Done | Failure) for event in self.events) == 1
        return self.events[-1]


def counting(count, log=None):
    def work(should_stop):
        for n in range(count):
            if should_stop():
                return
            if log is not None:
                log.append(n)
            yield n

    return work


def failing(error):
    def work(should_stop):
        yield 0
        raise error

    return work


def run(engine, *clients):
    """Submit, and run until all of them are told their end."""
    left = Counter(client.ticket for client in clients)

    def watched(ticket, tell):
        def told(event):
            tell(event)
            left[ticket] -= isinstance(event, Done | Failure)
            if not any(left.values()):
                engine.stop()

        return told

    for client in clients:
        client.ticket.tell = watched(client.ticket, client.ticket.tell)
    engine.submit([client.ticket for client in clients])
    engine.run()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 3))
def test_every_client_gets_all_of_its_results_and_one_end(counts, rows):
    clients = [Client(counting(count)) for count in counts]
    run(Engine(8, rows), *clients)
    for client, count in zip(clients, counts, strict=True):
        assert client.results == list(range(count))
        assert client.last == Done()


def test_rows_take_turns_and_one_begins_at_a_time():
    log = []
    run(Engine(8, rows=2), *(Client(lambda stop, name=name: tagged(name, log)) for name in "abc"))
    assert log == [
        *(("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1)),
        *(("b", 2), ("c", 0), ("c", 1), ("c", 2)),
    ]


def test_is_alone_counts_waiting_work():
    engine = Engine(8, rows=2)
    seen = []

    def work(should_stop):
        yield seen.append(engine.is_alone())

    run(engine, *(Client(work) for _ in range(3)))
    assert seen == [False, False, True]


def tagged(name, log):
    for n in range(3):
        log.append((name, n))
        yield n


def test_a_full_queue_refuses_and_makes_room_again():
    engine = Engine(2)
    first, second = Client(counting(1)), Client(counting(1))
    engine.submit([first.ticket, second.ticket])
    with pytest.raises(ApiError) as refused:
        engine.submit([Client(counting(1)).ticket])
    assert refused.value.status == 429
    assert dict(refused.value.headers)["Retry-After"].isdecimal()
    third = Client(counting(1))
    second.ticket.tell = lambda event: (
        engine.submit([third.ticket]) if isinstance(event, Done) else None
    )
    third.ticket.tell = lambda event: engine.stop()
    engine.run()


def test_submission_is_all_or_nothing():
    engine = Engine(2)
    with pytest.raises(ApiError):
        engine.submit([Client(counting(1)).ticket for _ in range(3)])
    engine.submit([Client(counting(1)).ticket for _ in range(2)])


def test_cancelled_work_ends_within_one_step():
    log = []
    client = Client(counting(1000, log))

    def tell(event):
        if isinstance(event, Result) and event.value == 4:
            client.ticket.cancel()

    client.ticket.tell = tell
    run(Engine(8), client)
    assert log == [0, 1, 2, 3, 4]


def test_cancelled_waiting_work_is_never_begun():
    log = []
    first, second = Client(counting(3)), Client(counting(3, log))
    second.ticket.cancel()
    run(Engine(8), first, second)
    assert first.results == [0, 1, 2]
    assert (log, second.results) == ([], [])


class Panic(BaseException):
    """As of a library written in Rust."""


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (ValueError("tau must be less"), 400, "ready"),
        (ApiError(404, "no such model"), 404, "ready"),
        (RuntimeError("broken"), 500, "failing"),
        (MemoryError(), 500, "failing"),
        (Panic("broken"), 500, "failing"),
    ],
)
def test_a_failure_of_one_fails_that_one_alone(error, status, state):
    recovered, states = [], []
    engine = Engine(8, recover=lambda: recovered.append(True))
    bad, good = Client(failing(error)), Client(counting(2))
    tell = bad.ticket.tell

    def told(event):
        tell(event)
        states.append(engine.state)

    bad.ticket.tell = told
    run(engine, bad, good)
    assert bad.last.error.status == status
    assert states[-1] == state
    assert bool(recovered) == (status == 500)
    assert good.results == [0, 1]
    assert good.last == Done()


def test_after_a_fault_a_success_makes_it_ready_again():
    states = []
    engine = Engine(8)
    good = Client(counting(1))
    good.ticket.tell = lambda event: states.append(engine.state)
    run(engine, Client(failing(RuntimeError())), good)
    assert states == ["failing", "ready"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_early_end_fails_all_waiting_work(error):
    engine = Engine(8, rows=2)
    clients = [Client(failing(error())), *(Client(counting(99)) for _ in range(3))]
    engine.submit([client.ticket for client in clients])
    with pytest.raises(error):
        engine.run()
    assert engine.state == "stopped"
    assert [client.last.error.status for client in clients] == [503] * 4
    with pytest.raises(ApiError) as refused:
        engine.submit([Client(counting(1)).ticket])
    assert refused.value.status == 503


def test_stop_ends_what_runs_within_one_step():
    log = []
    client = Client(counting(1000, log))
    engine = Engine(8)
    client.ticket.tell = lambda event: engine.stop() if isinstance(event, Result) else None
    engine.submit([client.ticket])
    engine.run()
    assert log == [0]


def test_quick_work_goes_between_two_steps_of_slow_work():
    log = []
    slow, quick = Client(counting(3, log)), Client(counting(1, log), quick=True)
    tell = slow.ticket.tell

    def told(event):
        tell(event)
        if event == Result(0):
            engine.submit([quick.ticket])

    slow.ticket.tell = told
    engine = Engine(8)
    run(engine, slow)
    assert log == [0, 0, 1, 2]
    assert quick.last == Done()


def test_work_is_taken_from_other_threads():
    engine = Engine(64)
    clients = [Client(counting(3)) for _ in range(32)]
    told = threading.Semaphore(0)
    for client in clients:
        tell = client.ticket.tell

        def count(event, tell=tell):
            tell(event)
            if isinstance(event, Done):
                told.release()

        client.ticket.tell = count
    with running(engine.run, engine.stop):
        threads = [
            threading.Thread(target=engine.submit, args=([client.ticket],)) for client in clients
        ]
        for thread in threads:
            thread.start()
        for _ in clients:
            assert told.acquire(timeout=60)
    assert all(client.results == [0, 1, 2] for client in clients)
