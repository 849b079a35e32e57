"""Requests are understood as OpenAI means them, or refused by the name of a field."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.serve.errors import ApiError
from scripted_server import QUEUE, reader

HI = {"messages": [{"role": "user", "content": "hi"}]}
READER = reader()


def chat(**fields):
    return READER.chat({**HI, **fields})


def test_missing_fields_take_the_settings_of_the_command():
    asked = reader("--temp", "0.3", "--max-tokens", "9", "--seed", "4").chat(HI)
    assert (asked.settings.temp, asked.settings.max_tokens, asked.settings.seed) == (0.3, 9, 4)
    assert (asked.model, asked.settings.method, asked.settings.dial) == ("P", "blendin", 1.0)
    assert (asked.n, asked.stream, asked.logprobs, asked.candidates) == (1, False, None, 0)
    assert asked.messages == ({"role": "user", "content": "hi"},)


@pytest.mark.parametrize(
    ("field", "value", "option", "meant"),
    [
        ("temperature", 0.5, "temp", 0.5),
        ("temperature", 0, "temp", 0.0),
        ("top_p", 0.9, "top_p", 0.9),
        ("min_p", 0.1, "min_p", 0.1),
        ("top_k", 7, "top_k", 7),
        ("seed", 0, "seed", 0),
        ("max_tokens", 3, "max_tokens", 3),
        ("max_completion_tokens", 3, "max_tokens", 3),
        ("stop", "end", "stop", ("end",)),
        ("stop", ["a", "b"], "stop", ("a", "b")),
        ("stop", [], "stop", ()),
    ],
)
def test_fields_of_openai_are_options_of_the_command(field, value, option, meant):
    given = reader("--temp", "0.3", "--stop", "x", "--seed", "4", "--max-tokens", "8")
    assert getattr(given.chat({**HI, field: value}).settings, option) == meant
    assert given.chat({**HI, field: None}) == given.chat(HI)
    assert getattr(given.completion({"prompt": "a", field: value}).settings, option) == meant


@pytest.mark.parametrize(
    ("field", "value", "option", "meant"),
    [
        ("tau", 0, "tau", 0.0),
        ("lambda", 0.2, "lambda_", 0.2),
        ("alpha", 0.5, "alpha", 0.5),
        ("alpha", "auto", "alpha", None),
        ("stop_policy", "guide", "stop_policy", "guide"),
        ("projection", "shared", "projection", "shared"),
        ("base_template", "plain", "base_template", "plain"),
        ("thinking", True, "thinking", True),
        ("method", "nudging", "method", "nudging"),
        ("dial", 0.25, "dial", 0.25),
        ("guide_temp", 2, "guide_temp", 2.0),
        ("temper", 0.5, "temper", 0.5),
        ("gate", "entropy", "gate", "entropy"),
        ("repetition_penalty", 1.2, "repetition_penalty", 1.2),
    ],
)
def test_our_own_object_has_the_options_of_the_blend(field, value, option, meant):
    assert getattr(chat(blendin={field: value}).settings, option) == meant


def test_our_own_object_says_how_much_is_told():
    assert chat(blendin={"candidates": 5}).candidates == 5


def test_another_method_drops_options_it_lacks():
    asked = reader("--tau", "0.3").chat({**HI, "model": "P:ensemble"})
    assert (asked.settings.method, asked.settings.tau) == ("ensemble", None)
    assert reader("--tau", "0.3").chat({**HI, "model": "P:nudging"}).settings.tau == 0.3


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": [1]}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"stop": 5}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"n": 0}, "n"),
        ({"n": QUEUE + 1}, "n"),
        ({"n": 1e300}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, None),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object"}, "stop": "x"}, "stop"),
        ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"audio": {"voice": "a"}}, "audio"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"foo": 1}, "foo"),
        ({"blendin": {"foo": 1}}, "blendin.foo"),
        ({"blendin": []}, "blendin"),
        ({"blendin": {"tau": "0.3"}}, "blendin.tau"),
        ({"blendin": {"tau": 2}}, "blendin.tau"),
        ({"blendin": {"dial": 1.5}}, "blendin.dial"),
        ({"blendin": {"method": "dance"}}, "blendin.method"),
        ({"blendin": {"method": "proxy-tuning"}}, "blendin"),
        ({"blendin": {"method": "base", "tau": 0.3}}, "blendin"),
        ({"blendin": {"stop_policy": "never"}}, "blendin.stop_policy"),
        ({"blendin": {"alpha": "half"}}, "blendin.alpha"),
        ({"blendin": {"candidates": 21}}, "blendin.candidates"),
        ({"blendin": {"base_template": "/etc/passwd"}}, "blendin.base_template"),
        ({"blendin": {"aligned_template": "x"}}, "blendin.aligned_template"),
        ({"blendin": {"prompt_cache": "x"}}, "blendin.prompt_cache"),
        ({"blendin": {"json_schema": "/etc/passwd"}}, "blendin.json_schema"),
        ({"blendin": {"base": "x"}}, "blendin.base"),
        ({"blendin": {"reference": "x"}}, "blendin.reference"),
        ({"blendin": {"kv_bits": 4}}, "blendin.kv_bits"),
        ({"model": "P:base", "blendin": {"method": "kad"}}, "blendin.method"),
        ({"model": 5}, "model"),
    ],
)
def test_unsupported_fields_are_refused_by_name(fields, name):
    with pytest.raises(ApiError) as refused:
        chat(**fields)
    assert refused.value.status == 400
    assert name is None or refused.value.param == name
    assert refused.value.param in refused.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"response_format": {"type": "text"}, "modalities": ["text"], "audio": None},
    ],
)
def test_fields_that_ask_for_nothing_are_taken(fields):
    assert chat(**fields) == chat()


@pytest.mark.parametrize(
    ("format_", "schema"),
    [
        ({"type": "json_object"}, {"type": "object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}},
            {},
        ),
    ],
)
def test_a_json_format_is_a_schema(format_, schema):
    assert chat(response_format=format_).settings.json_schema == schema


def test_messages_may_be_developers_or_have_parts():
    parts = [{"type": "text", "text": "the cat "}, {"type": "text", "text": "sat"}]
    asked = chat(
        messages=[
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": parts, "name": None},
            {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": []},
            {"role": "user", "content": "why?"},
        ]
    )
    assert [m["role"] for m in asked.messages] == ["system", "user", "assistant", "user"]
    assert asked.messages[1]["content"] == "the cat sat"


def test_a_system_message_takes_the_place_of_the_command_s():
    given = reader("--system", "be brief")
    assert given.chat(HI).settings.system == "be brief"
    own = [{"role": "system", "content": "be kind"}, *HI["messages"]]
    assert given.chat({"messages": own}).settings.system is None


@pytest.mark.parametrize(
    ("messages", "name"),
    [
        (None, "messages"),
        ("hi", "messages"),
        ([], "messages"),
        ([5], "messages[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": "x", "name": "me"}], "messages[0].name"),
        ([{"role": "assistant", "content": "x", "tool_calls": [1]}], "messages[0].tool_calls"),
    ],
)
def test_bad_messages_are_refused_with_the_reason(messages, name):
    with pytest.raises(ApiError) as refused:
        chat(messages=messages)
    assert (refused.value.status, refused.value.param) == (400, name)


@pytest.mark.parametrize(
    ("prompt", "meant"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a", [3]], ("a", (3,))),
    ],
)
def test_a_prompt_has_many_forms(prompt, meant):
    assert READER.completion({"prompt": prompt}).prompts == meant


@pytest.mark.parametrize("prompt", [None, 5, [], [[]], [1, "a"], [-1], [1.5], [True], {}, [None]])
def test_a_prompt_of_another_form_is_refused(prompt):
    with pytest.raises(ApiError) as refused:
        READER.completion({"prompt": prompt})
    assert refused.value.param == "prompt"


def test_a_text_may_be_given_no_token():
    read = reader("--max-tokens", "9").completion
    for fields, writes in (({}, True), ({"max_tokens": 1}, True), ({"max_tokens": 0}, False)):
        assert read({"prompt": "a", **fields}).writes == writes
    assert read({"prompt": "a", "max_tokens": 0.0}).settings.max_tokens == 9
    for zero in ({"max_tokens": 0, "max_completion_tokens": 2}, {"max_tokens": False}):
        with pytest.raises(ApiError):
            read({"prompt": "a", **zero})


def test_prompts_and_n_are_counted_together():
    with pytest.raises(ApiError):
        READER.completion({"prompt": ["a"] * QUEUE, "n": 2})
    assert READER.completion({"prompt": ["a"] * QUEUE}).n == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
NAMES = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "n",
        "stream",
        "stream_options",
        "logprobs",
        "top_logprobs",
        "response_format",
        "blendin",
        "echo",
        "max_tokens",
        "tools",
        "logit_bias",
        "user",
    ]
)
OWN = st.sampled_from(["tau", "alpha", "lambda", "dial", "method", "thinking", "candidates"])


@given(st.dictionaries(NAMES, JSON | st.dictionaries(OWN, JSON), max_size=4), st.booleans())
def test_whatever_json_comes_it_is_read_or_refused(fields, is_chat):
    with contextlib.suppress(ApiError):  # anything else that is raised fails
        read = READER.chat if is_chat else READER.completion
        assert read({"prompt": "a", **fields} if not is_chat else {**HI, **fields}).n >= 1
