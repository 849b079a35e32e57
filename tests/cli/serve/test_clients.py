"""Programs that people have: the ``openai`` package, ``llm``, ``lm_eval`` and ``curl``."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from commands import DEADLINE_S
from scripted_server import Script, scripted_server, words

HI = [{"role": "user", "content": "hi"}]
JSON = ("-H", "Content-Type: application/json", "-d")
with_lm_eval = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("lm_eval", "tenacity"))), reason="needs lm-eval[api]"
)
with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl on the PATH")


@pytest.fixture
def client(pair_server):
    with openai.OpenAI(
        base_url=f"{pair_server.address.url}/v1", api_key="none", max_retries=0
    ) as made:
        yield made


def test_openai_chats(client, pair_server):
    answer = client.chat.completions.create(
        model=pair_server.model,
        messages=HI,
        max_tokens=6,
        logprobs=True,
        top_logprobs=2,
        n=2,
        extra_body={"blendin": {"method": "nudging"}},
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    choice = answer.choices[0]
    assert choice.message.content == "".join(one.token for one in choice.logprobs.content)
    assert [len(one.top_logprobs) for one in choice.logprobs.content] == [2] * 6
    assert answer.usage.completion_tokens == 12
    assert choice.blendin["method"] == "nudging"


def test_openai_streams(client, pair_server):
    asked = {"model": pair_server.model, "messages": HI, "max_tokens": 6}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}, logprobs=True
        )
    )
    assert chunks[-1].usage == whole.usage
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == whole.choices[0].message.content
    tokens = [t.token for c in chunks if c.choices for t in (c.choices[0].logprobs or NONE).content]
    assert "".join(tokens) == whole.choices[0].message.content


class NONE:
    """No log-probabilities, as the first chunk has them."""

    content = ()


def test_openai_streams_with_its_helper(client, pair_server):
    asked = {"model": pair_server.model, "messages": HI, "stop": "o", "max_tokens": 99}
    with client.chat.completions.stream(**asked) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in events
    assert final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


class Colour(BaseModel):
    """What an answer shall be."""

    name: Literal["red", "blue"]
    bright: bool


def test_openai_parses_structured_output(client, pair_server):
    answer = client.chat.completions.parse(
        model=pair_server.model, messages=HI, max_tokens=200, response_format=Colour
    )
    assert answer.choices[0].message.parsed.name in ("red", "blue")


def test_openai_raises_its_own_errors(client, pair_server):
    asked = {"model": pair_server.model, "messages": HI}
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**{**asked, "model": "gpt-4"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asked, frequency_penalty=1)
    assert refused.value.param == "frequency_penalty"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**asked, stop=[""], stream=True)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=pair_server.model, input="hi")


def test_openai_completes_texts_and_lists_models(client, pair_server):
    text = client.completions.create(
        model=pair_server.model, prompt=["a", "b"], max_tokens=3, logprobs=2
    )
    assert [choice.index for choice in text.choices] == [0, 1]
    assert len(text.choices[0].logprobs.token_logprobs) == 3
    ids = [model.id for model in client.models.list()]
    assert f"{pair_server.model}:nudging" in ids
    assert client.models.retrieve(ids[-1]).id == ids[-1]


def test_openai_cancels(client, pair_server):
    stream = client.chat.completions.create(
        model=pair_server.model, messages=HI, max_tokens=4000, stream=True
    )
    next(stream)
    stream.close()
    answer = client.chat.completions.create(model=pair_server.model, messages=HI, max_tokens=2)
    assert answer.usage.completion_tokens == 2


def test_openai_does_not_retry_a_fault():
    script = Script([RuntimeError("broken")])
    with scripted_server(script) as server:
        client = openai.OpenAI(base_url=f"{server.address.url}/v1", api_key="none", max_retries=3)
        with client, pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="P", messages=HI)
        assert len(script.asked) == 1


def test_openai_raises_an_error_in_the_middle_of_a_stream():
    with scripted_server(Script([*words("one")[:1], RuntimeError("broken")])) as server:
        client = openai.OpenAI(base_url=f"{server.address.url}/v1", api_key="none")
        with client:
            stream = client.chat.completions.create(model="P", messages=HI, stream=True)
            with pytest.raises(openai.APIError, match="broken"):
                list(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_llm_asks_by_its_own_configuration(pair_server, tmp_path, stream):
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: blend\n  model_name: {pair_server.model}\n"
        f"  api_base: {pair_server.address.url}/v1\n"
    )
    options = [] if stream else ["--no-stream"]
    told = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "blend", "-o", "max_tokens", "6", *options, "hi"],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    asked = {"messages": HI, "max_tokens": 6}
    answer = pair_server.address.post("/v1/chat/completions", asked).json
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.rstrip("\n") == answer["choices"][0]["message"]["content"].rstrip("\n")


@with_curl
def test_curl_asks_and_streams(pair_server):
    body = json.dumps({"messages": HI, "max_tokens": 4, "stream": True})
    told = subprocess.run(
        ["curl", "-sN", f"{pair_server.address.url}/v1/chat/completions", *JSON, body],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert told.stdout.endswith("data: [DONE]\n\n")


@with_curl
def test_curl_sends_a_large_request_after_leave_was_given(pair_server, tmp_path):
    url, content = f"{pair_server.address.url}/v1/chat/completions", "cat " * 300_000
    (tmp_path / "body.json").write_text(json.dumps({"messages": [{**HI[0], "content": content}]}))
    told = subprocess.run(
        ["curl", "-sw", "%{http_code}", url, *JSON, f"@{tmp_path / 'body.json'}"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert told.stdout.endswith("400")
    assert "holds 4096" in told.stdout


LM_TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "Question: {{{{q}}}}\\nAnswer:"
{form}
"""
LM_CHOICE = """
doc_to_choice: "{{c}}"
doc_to_target: "{{a}}"
metric_list: [{metric: acc}]
"""
LM_WORDS = """
doc_to_target: "{{c[a]}}"
generation_kwargs: {max_gen_toks: 8, until: ["o"]}
metric_list: [{metric: exact_match}]
"""
LM_QUESTIONS: list[dict[str, Any]] = [
    {"q": "Which capital?", "c": ["Paris", "a long banana"], "a": 0},
    {"q": "What colour?", "c": ["of stone", "green"], "a": 1},
]


@with_lm_eval
@pytest.mark.parametrize(
    ("model", "kind", "form", "route"),
    [
        ("local-completions", "multiple_choice", LM_CHOICE, "completions"),
        ("local-completions", "generate_until", LM_WORDS, "completions"),
        ("local-chat-completions", "generate_until", LM_WORDS, "chat/completions"),
    ],
)
def test_lm_eval_chooses_and_asks(pair_server, tmp_path, model, kind, form, route):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in LM_QUESTIONS))
    task = LM_TASK.format(name="tiny", data=data, kind=kind, form=form)
    (tmp_path / "tiny.yaml").write_text(task)
    asked = [f"model={pair_server.model}", f"base_url={pair_server.address.url}/v1/{route}"]
    found = simple_evaluate(
        model,
        ",".join([*asked, "num_concurrent=4", "tokenizer_backend=remote"]),
        ["tiny"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        apply_chat_template=model == "local-chat-completions",
    )["samples"]["tiny"]
    assert len(found) == len(LM_QUESTIONS)
    if kind == "multiple_choice":
        for one, question in zip(found, LM_QUESTIONS, strict=True):
            text = f"Question: {question['q']}\nAnswer:"
            for (told, _), choice in zip(one["filtered_resps"], question["c"], strict=True):
                assert float(told) == pytest.approx(scored(pair_server, text, f" {choice}"))


def scored(server, text, answer):
    """The log-probability of an answer, by an echo of our own."""
    ids = [
        server.address.post("/tokenize", {"prompt": prompt, "add_special_tokens": False}).json[
            "tokens"
        ]
        for prompt in (text, text + answer)
    ]
    asked = {"prompt": ids[1], "echo": True, "logprobs": 1, "max_tokens": 0}
    (choice,) = server.address.post("/v1/completions", asked).json["choices"]
    return sum(choice["logprobs"]["token_logprobs"][len(ids[0]) :])
