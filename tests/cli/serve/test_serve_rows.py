"""Requests that are answered side by side get what each of them gets alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from blendin_cli.serve.decoding import Decoding
from blendin_cli.serve.parts import Part, joined
from blendin_cli.session import Session
from scripted_server import reader
from served_pair import ServedPair

MB = 2**20
TEXT = "the cat sat on the mat and the dog"
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["yes", "no"]}}, "required": ["a"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def hi(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 16, **fields}


# Conversations have messages, texts to go on from a prompt.
ASKED: dict[str, dict[str, Any]] = {
    "greedy": hi(),
    "another method": hi(blendin={"method": "nudging"}),
    "the base alone": hi(blendin={"method": "base"}),
    "another gate": hi(blendin={"tau": 0.9, "alpha": 0.7, "candidates": 2}),
    "two of a seed": hi(temperature=2, seed=5, n=2),
    "another seed": hi(temperature=2, seed=9, top_k=9),
    "a seed and penalties": hi(temperature=1, seed=7, blendin={"repetition_penalty": 1.5}),
    "stop strings": hi(stop=["o", "th"], max_tokens=60),
    "a schema": hi(response_format=FORMAT, max_tokens=60),
    "log-probabilities": hi("why", logprobs=True, top_logprobs=3),
    "a long prompt": hi(TEXT * 40, max_tokens=5),
    "texts": {"prompt": [TEXT, "a"], "max_tokens": 8, "logprobs": 2},
    "an echo": {"prompt": TEXT, "echo": True, "logprobs": 1, "max_tokens": 3},
}


class Served:
    """The decoding of a pair, whose work is stepped here as the engine steps it."""

    def __init__(self, pair: tuple[str, ...], *options: str, batch: int = 8) -> None:
        self.reader = reader(*pair, "--draft", "off", "--no-wired-limit", *options)
        self.unfinished = 0
        session = Session(self.reader._settings, quiet=True)
        self.decoding = Decoding(session, MB, batch, lambda: self.unfinished <= 1)
        self.most = 0  # answers that were in the batch at once

    def works(self, asked: dict[str, Any], should_stop: Any = lambda: False) -> list[Iterator[Any]]:
        """The answers to a request, none of them begun."""
        if "messages" in asked:
            chat = self.reader.chat(asked)
            made = [self.decoding.chat(chat, n, should_stop) for n in range(chat.n)]
        else:
            text = self.reader.completion(asked)
            numbers = range(len(text.prompts) * text.n)
            made = [self.decoding.completion(text, n, should_stop) for n in numbers]
        self.unfinished += len(made)
        return [self._counted(work) for work in made]

    def _counted(self, work: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from work
        finally:
            self.unfinished -= 1

    def step(self, *works: Iterator[Any]) -> list[list[Any]]:
        """Step works in turn to their ends; return what each of them yields."""
        came: dict[int, list[Any]] = {n: [] for n in range(len(works))}
        running = dict(enumerate(works))
        while running:
            for n, work in list(running.items()):
                value = next(work, None)
                self.most = max(self.most, len(self.decoding._rows._batch))
                if value is None:
                    del running[n]
                else:
                    came[n].append(value)
        return list(came.values())


def whole(came: list[Any]) -> Part:
    """An answer, without what differs by rounding."""
    return joined([one for one in came if isinstance(one, Part)])


def assert_same(got: Part, expected: Part) -> None:
    """Two answers are the same; their probabilities but for rounding."""
    assert (got.text, got.finish, got.usage) == (expected.text, expected.finish, expected.usage)
    assert rounded(got.decisions) == rounded(expected.decisions)
    assert rounded(got.blend) == rounded(expected.blend)
    assert [one.token.written for one in got.shown] == [one.token.written for one in expected.shown]
    for one, other in zip(got.shown, expected.shown, strict=True):
        assert one.token.logprob == pytest.approx(other.token.logprob, abs=1e-3)
        assert [top.written for top in one.top] == [top.written for top in other.top]


def rounded(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 3))


@pytest.fixture(scope="module")
def served(tiny: tuple[str, ...]) -> Served:
    return Served(tiny)


@pytest.fixture(scope="module")
def alone(tiny: tuple[str, ...]) -> dict[str, list[Part]]:
    """What each request gets from a server that writes one answer at a time."""
    served = Served(tiny, batch=1)
    found = {
        name: [whole(served.step(work)[0]) for work in served.works(asked)]
        for name, asked in ASKED.items()
    }
    assert served.most == 0
    return found


@pytest.mark.parametrize("first", [0, 3, 8])
def test_answers_side_by_side_are_those_of_each_alone(
    served: Served, alone: dict[str, list[Part]], first: int
) -> None:
    names = [*list(ASKED)[first:], *list(ASKED)[:first]]
    works = [(name, work) for name in names for work in served.works(ASKED[name])]
    came = served.step(*(work for _, work in works))
    assert served.most >= 8
    expected = [part for name in names for part in alone[name]]
    for (name, _), got, part in zip(works, came, expected, strict=True):
        assert_same(whole(got), part), name


def test_an_answer_that_was_begun_alone_is_not_disturbed(
    served: Served, alone: dict[str, list[Part]]
) -> None:
    """It draws its own numbers, whatever the others draw."""
    for name in ("another seed", "greedy"):
        (work,) = served.works(ASKED[name])
        begun = [next(work), next(work)]  # a part is there: it is written alone
        others = [one for asked in list(ASKED.values())[3:9] for one in served.works(asked)]
        came, *_ = served.step(work, *others)
        assert_same(whole([*begun, *came]), *alone[name])


def test_answers_that_come_later_join_those_that_are_written(
    served: Served, alone: dict[str, list[Part]]
) -> None:
    name = "two of a seed"
    first, second = served.works(ASKED[name])
    begun = [[next(first)], [next(second)]]
    begun[0].append(next(first))
    (late,) = served.works(ASKED["greedy"])
    came = served.step(first, second, late)
    for before, after, expected in zip(begun, came, alone[name], strict=False):
        assert_same(whole([*before, *after]), expected)
    assert_same(whole(came[2]), *alone["greedy"])


@pytest.mark.parametrize("asked", ["greedy", "a long prompt"])
@pytest.mark.parametrize("others", [0, 3])
def test_an_abandoned_request_frees_its_row_within_one_step(
    served: Served, asked: str, others: int
) -> None:
    told = list[bool]()
    gone = False

    def should_stop() -> bool:
        told.extend([True] * gone)
        return gone

    works = [one for _ in range(others) for one in served.works(hi(max_tokens=40))]
    for work in works:
        next(work)
    (leaving,) = served.works({**ASKED[asked], "max_tokens": 99}, should_stop)
    next(leaving)
    if asked == "greedy":  # the other one leaves while its prompt is read
        next(leaving)
    gone = True
    left = [decision for part in leaving for decision in part.decisions]
    assert len(left) <= (asked == "greedy")
    assert told == [True]
    assert served.unfinished == others
    assert len(served.decoding._rows._batch) == 0
    served.step(*works)
    assert served.unfinished == 0


def test_an_abandoned_echo_is_interrupted(served: Served) -> None:
    """It is scored in passes; the first one after the client has gone is the last."""
    passes = list[int]()

    def should_stop() -> bool:
        passes.append(1)
        return len(passes) == 2

    prompt = "the cat sat " * 60
    (work,) = served.works({"prompt": prompt, "echo": True, "logprobs": 1}, should_stop)
    assert len(list(work)) == 1  # its start
    assert len(passes) == 2


def test_a_failure_of_one_row_fails_that_request_alone(tiny: tuple[str, ...]) -> None:
    served = Served(tiny)
    names = ("greedy", "another seed", "another method")
    expected = [whole(served.step(*served.works(ASKED[name]))[0]) for name in names]
    works = [served.works(ASKED[name])[0] for name in names]
    for work in works:
        next(work)
    served.step(*(one for text in "ab" for one in served.works(hi(text))))
    batch = served.decoding._rows._batch
    add = batch.add

    def spoilt(number: int, prompt: Any, options: Any, *rest: Any) -> None:
        def process(ids: Any, logits: Any) -> Any:
            raise KeyError("spoilt")

        add(number, prompt, type(options)(**{**vars(options), "logits_processors": [process]}))

    batch.add = spoilt  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyError, match="spoilt"):
        list(works[1])
    batch.add = add  # type: ignore[method-assign]
    kept = [context.kept for context in batch._contexts.values()]
    assert all(one.nbytes for one in kept)
    served.decoding.recover()
    assert not any(one.nbytes for one in kept)
    first, _, third = expected
    for got, part in zip(served.step(works[0], works[2]), (first, third), strict=True):
        assert_same(whole(got), part)


def test_a_step_that_fails_for_all_is_told_to_all_and_others_follow(tiny: tuple[str, ...]) -> None:
    served = Served(tiny)
    (expected,) = served.step(*served.works(ASKED["greedy"]))
    works = [served.works(ASKED["greedy"])[0] for _ in range(3)]
    for work in [*works, *works]:
        next(work)
    batch = served.decoding._rows._batch
    batch._serve = partial(_raise, MemoryError("full"))  # type: ignore[method-assign]
    for work in works:
        with pytest.raises(MemoryError, match="full"):
            list(work)
    del batch._serve
    assert (len(batch), served.unfinished) == (0, 0)
    again = [served.works(ASKED["greedy"])[0] for _ in range(2)]
    for got in served.step(*again):
        assert_same(whole(got), whole(expected))


def _raise(error: BaseException) -> None:
    raise error


def test_clients_that_ask_at_once_get_what_each_gets_alone(pair_server: ServedPair) -> None:
    path = {"messages": "/v1/chat/completions", "prompt": "/v1/completions"}

    def ask(asked: dict[str, Any]) -> Any:
        reply = pair_server.address.post(path[next(iter(asked))], asked)
        assert reply.status == 200, reply.body
        return rounded({name: reply.json[name] for name in ("choices", "usage")})

    expected = [ask(asked) for asked in ASKED.values()]
    with ThreadPoolExecutor(len(ASKED)) as clients:
        assert list(clients.map(ask, ASKED.values())) == expected


@pytest.mark.parametrize("memory", [0, MB])
def test_kept_prefixes_of_rows_stay_within_the_limit(tiny: tuple[str, ...], memory: int) -> None:
    served = Served(tiny)
    batch = served.decoding._rows._batch
    batch.keep(memory)
    for _ in range(3):
        served.step(*(one for text in ("a", "b", TEXT) for one in served.works(hi(text))))
        held = sum(context.kept.nbytes for context in batch._contexts.values())
        assert held <= memory
        assert bool(held) == bool(memory)
        arrays = [a for c in batch._contexts.values() for la in c._layers for a in la.arrays]
        assert sum(array.nbytes for array in arrays) == 0  # nothing else is


def test_caches_that_hold_one_answer_are_answered_in_order(tiny: tuple[str, ...]) -> None:
    served = Served(tiny, "--kv-bits", "8", batch=4)
    assert served.decoding.size == 1
    (got,) = served.step(*served.works(ASKED["greedy"]))
    (again,) = served.step(*served.works(ASKED["greedy"]))
    assert_same(whole(got), whole(again))
    assert served.most == 0


@pytest.mark.parametrize("echo", [False, True])
def test_no_token_at_all_is_an_answer_too(served: Served, echo: bool) -> None:
    asked = {"prompt": TEXT, "max_tokens": 0, "echo": echo, "logprobs": 1}
    (came,) = served.step(*served.works(asked))
    got = whole(came)
    (more,) = served.step(*served.works({**asked, "max_tokens": 1, "echo": True}))
    scored = whole(more).shown[:-1]
    assert (got.text, got.finish) == (TEXT if echo else "", "length")
    assert got.usage == (len(scored), 0)
    assert len(got.shown) == (len(scored) if echo else 0)
    assert got.decisions == ()
    assert got.blend["interventions"] == 0
