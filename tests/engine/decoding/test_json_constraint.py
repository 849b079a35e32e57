"""Answers held to a JSON schema: what is written satisfies it, and the gate sees nothing of it."""

from __future__ import annotations

import io
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from blendin_mlx.answer_statistics import describe_method
from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.formulas import restricted
from blendin_mlx.blend.methods import METHODS, make_method
from blendin_mlx.decoding.json_constraint import JsonConstraint
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.errors import NumericalError, SchemaError
from blendin_mlx.generation import stream_generate
from blendin_mlx.prompts import build_prompt
from blendin_mlx.trace.records import TraceWriter
from blendin_mlx.trace.verify import verify_trace
from scripted import STOP, always, answer, says, scripted_pair
from texts import ALL_TOKENIZERS

NAMES = ["Zoë", "李雷", "☃", "e\u0301", 'a "b"\n']


def is_person(value: Any) -> bool:
    return (
        list(value) == ["name", "age"]
        and value["name"] in NAMES
        and isinstance(value["age"], int)
        and 0 <= value["age"] <= 120
    )


def is_list(value: Any) -> bool:
    return 2 <= len(value) <= 3 and all(item in (True, False, None) for item in value)


def is_short(value: Any) -> bool:
    return isinstance(value, str) and 2 <= len(value) <= 5


def is_word(value: Any) -> bool:
    return len(value) == 3 and set(value) <= set("abcé")


PERSON = {
    "type": "object",
    "properties": {
        "name": {"enum": NAMES},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS = {
    "person": (PERSON, is_person),
    "list": (
        {"type": "array", "items": {"enum": [True, False, None]}, "minItems": 2, "maxItems": 3},
        is_list,
    ),
    "short": ({"type": "string", "minLength": 2, "maxLength": 5}, is_short),
    "word": ({"type": "string", "pattern": "^[abcé]{3}$"}, is_word),
}
YES_NO = {"enum": ["yes", "no"]}
named = pytest.mark.parametrize("name", SCHEMAS)


def held(pair: Any, schema: Any, **options: Any) -> Any:
    """A whole answer that is held to a schema."""
    constraint = JsonConstraint(pair.base.vocabulary, schema)
    return answer(pair, constraint=constraint, **{"max_tokens": 200, **options})


def flat(tokenizers: int = 1) -> Any:
    """A pair that wants nothing in particular, and is unsure everywhere."""
    return scripted_pair(always({}), always({}), tokenizers=tokenizers)


@named
@pytest.mark.parametrize("tokenizers", [1, 2])
@pytest.mark.parametrize("temp", [0.0, 1.0])
def test_what_is_written_satisfies_the_schema(name, tokenizers, temp):
    schema, is_right = SCHEMAS[name]
    pair = flat(tokenizers)
    for seed in range(3 if temp else 1):
        mx.random.seed(seed)
        options = {"sampler": make_sampler(temp=temp, top_p=0.9)} if temp else {}
        got = held(pair, schema, **options)
        assert got.finish_reason == "stop"
        assert got.text == got.pieces_text
        assert is_right(json.loads(got.text)), got.text


@named
@pytest.mark.parametrize("tokenizer", ALL_TOKENIZERS)
def test_every_way_through_the_mask_satisfies_the_schema(vocabulary, name, tokenizer):
    schema, is_right = SCHEMAS[name]
    words = vocabulary(tokenizer)
    constraint = JsonConstraint(words, schema)
    chance = random.Random(7)
    for _ in range(3):
        ids: list[int] = []
        while True:
            token = int(chance.choice(np.flatnonzero(np.array(constraint.allowed(ids)))))
            if token == words.stop:
                break
            assert words.token_bytes[token], "a control token may come next"
            ids.append(token)
        assert is_right(json.loads(words.bytes_of(ids).decode()))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_held_to_it(method):
    pair = scripted_pair(
        always({"The": 0.5, STOP: 0.3}), always({"Yes": 0.6, STOP: 0.3}), reference=always({})
    )
    assert is_person(json.loads(held(pair, PERSON, method=method).text))


@named
@pytest.mark.parametrize("draft", ["guide", "lookup"])
@pytest.mark.parametrize("temp", [0.0, 1.0])
def test_drafts_change_no_token(name, draft, temp):
    schema, _ = SCHEMAS[name]
    pair = flat()
    found = []
    for drafter in ("off", Drafter(draft, num_draft_tokens=4)):
        mx.random.seed(3)
        options = {"sampler": make_sampler(temp=temp)} if temp else {}
        got = held(pair, schema, draft=drafter, **options)
        found.append(got.statistics.token_ids)
    assert found[0] == found[1]


def test_drafts_are_used():
    row = {'"': {"y": 0.9}, '"y': {"e": 0.9}, '"ye': {"s": 0.9}, '"yes': {'"': 0.9}, "": {'"': 0.9}}
    pair = scripted_pair(says(row), says(row))
    got = held(pair, YES_NO, draft=Drafter("guide", num_draft_tokens=3))
    assert (got.text, got.finish_reason) == ('"yes"', "stop")
    assert got.statistics.accepted >= 3


def test_the_gate_sees_the_base_as_it_is():
    sure = {"": {"The": 0.9}, '"n': {"o": 0.2, "The": 0.3}, '"no': {'"': 0.2}}
    pair = scripted_pair(says(sure), says({'"': {"n": 0.9}}))
    got = held(pair, YES_NO, method=make_method("blendin", tau=0.4))
    assert got.text == '"no"'
    first = got.steps[0]
    # A sure base that wants what is forbidden is not asked about again.
    assert (first.source, first.guidance) == ("base", None)
    assert first.base.prob == pytest.approx(0.9, abs=1e-4)
    assert first.base.id != first.id
    assert first.prob == pytest.approx(1.0)  # one token was allowed
    for step in got.steps[1:]:
        assert step.base.prob < 0.4
        assert step.is_intervention
        assert step.gate_margin == pytest.approx(step.base.prob - 0.4)


@pytest.mark.parametrize("wanted", ["yes", "no"])
def test_the_mask_lies_on_the_blend(wanted):
    table = {'"': {wanted[0]: 0.5, "The": 0.4}}
    pair = scripted_pair(always({}), says(table))
    got = held(pair, YES_NO)
    assert got.text == f'"{wanted}"'
    step = got.steps[1]
    other = {"y": "n", "n": "y"}[wanted[0]]
    assert step.is_intervention
    assert step.prob + (step.prob - step.gap) == pytest.approx(1, abs=1e-5), f"{other} is the rest"


@pytest.mark.parametrize("policy", ["blend", "base", "either", "guide"])
@pytest.mark.parametrize("ending", [{STOP: 0.95}, {"\n\n": 0.95}, {"# Query:": 0.95}])
def test_nothing_ends_an_answer_before_its_json_is_complete(policy, ending):
    pair = scripted_pair(always(ending), always({STOP: 0.95}))
    got = held(pair, PERSON, stop_policy=policy)
    assert got.finish_reason == "stop"
    assert is_person(json.loads(got.text))
    assert got.statistics.stop_policy == "blend"


@pytest.mark.parametrize("policy", ["blend", "guide"])
def test_an_answer_ends_where_nothing_may_follow(policy):
    pair = scripted_pair(always({"The": 0.9}), always({"The": 0.9}))
    got = held(pair, {"const": {"é": [1]}}, stop_policy=policy)
    assert got.text == '{"é": [1]}'
    assert got.finish_reason == "stop"


def test_a_limit_may_leave_it_incomplete():
    pair = flat()
    schema = {"type": "string", "minLength": 50}
    got = held(pair, schema, max_tokens=7)
    assert got.finish_reason == "length"
    constraint = JsonConstraint(pair.base.vocabulary, schema)
    assert not constraint.is_complete(got.statistics.token_ids)
    done = held(pair, YES_NO).statistics.token_ids[:-1]
    assert JsonConstraint(pair.base.vocabulary, YES_NO).is_complete(done)


def test_a_penalty_does_not_lift_what_is_forbidden():
    processors = make_logits_processors(repetition_penalty=5.0)
    got = held(flat(), PERSON, logits_processors=processors, sampler=make_sampler(temp=2.0))
    assert is_person(json.loads(got.text))


def test_stop_strings_are_refused():
    with pytest.raises(ValueError, match="leave out stop"):
        held(flat(), YES_NO, stop=["e"])


def test_where_no_allowed_token_has_mass_they_share_it():
    got = restricted(mx.array([[1.0, 0.0, 0.0]]), mx.array([False, True, True]))
    assert got.tolist() == [[0.0, 0.5, 0.5]]


def test_logits_that_are_not_finite_are_told_under_the_mask():
    broken = always({"The": math.nan})
    with pytest.raises(NumericalError, match="scripted base"):
        held(scripted_pair(broken, always({})), YES_NO)
    with pytest.raises(NumericalError, match="scripted guide"):
        held(scripted_pair(always({}), broken), YES_NO)


def test_the_mask_follows_from_the_tokens_alone():
    words = flat().base.vocabulary
    ids = words.encode('{"name": "☃", "age": 31}')
    constraint = JsonConstraint(words, PERSON)
    chance = random.Random(1)
    for _ in range(40):
        part = ids[: chance.randrange(len(ids) + 1)]
        fresh = JsonConstraint(words, PERSON)
        assert mx.array_equal(constraint.allowed(part), fresh.allowed(part))
        begun = JsonConstraint(words, PERSON, part[:3])
        assert mx.array_equal(begun.allowed(part[3:]), fresh.allowed(part))
    with pytest.raises(SchemaError, match="cannot go on from 'The'"):
        JsonConstraint(words, PERSON, words.encode("The"))


def test_a_byte_that_no_token_has_is_refused(vocabulary):
    with pytest.raises(SchemaError, match="smollm2 cannot go on"):
        JsonConstraint(vocabulary("smollm2"), {"const": "\U00040000"})
    assert JsonConstraint(vocabulary("smollm2"), {"const": "\U0001f600"})


def recorded(pair: Any, schema: Any, method: str, temp: float) -> list[Any]:
    """The trace of one held answer."""
    file = io.StringIO()
    writer = TraceWriter(file, pair)
    prompt = build_prompt(pair, "Hi")
    made = make_method(method)
    settings = {"stop_policy": "either", "temp": temp, "json_schema": schema}
    writer.run(prompt, {**describe_method(made), **settings})
    constraint = JsonConstraint(pair.base.vocabulary, schema)
    options = {"sampler": make_sampler(temp=temp)} if temp else {}
    for response in stream_generate(
        pair, prompt, method=made, constraint=constraint, max_tokens=80, **options
    ):
        for piece in response.pieces:
            writer.step(piece)
    writer.end(response.statistics.as_json())
    return [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("method", ["blendin", "nudging", "kad", "base"])
@pytest.mark.parametrize("temp", [0.0, 1.0])
def test_a_trace_follows_with_its_schema_and_not_without(method, temp):
    pair = scripted_pair(always({"The": 0.5}), always({" blue": 0.3, STOP: 0.3}), tokenizers=2)
    records = recorded(pair, PERSON, method, temp)
    assert verify_trace(pair, records) is None
    records[0]["json_schema"] = None
    assert verify_trace(pair, records) is not None
    records[0]["json_schema"] = {"type": "nonsense"}
    with pytest.raises(SchemaError, match="nonsense"):
        verify_trace(pair, records)


def test_the_demo_pair_writes_json(demo_pair):
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "country": {"enum": ["Österreich", "France", "日本"]},
        },
        "required": ["city", "country"],
        "additionalProperties": False,
    }
    constraint = JsonConstraint(demo_pair.base.vocabulary, schema)
    got = answer(demo_pair, "Where is the Eiffel tower?", constraint=constraint, max_tokens=40)
    assert got.finish_reason == "stop"
    value = json.loads(got.text)
    assert list(value) == ["city", "country"]
    assert value["country"] in schema["properties"]["country"]["enum"]  # type: ignore[index]
