"""The command with a pair of tiny models: the answers are those of ``generate``."""

from __future__ import annotations

import json
import signal
import socket
import threading

import pytest

from commands import DEADLINE_S
from served_pair import served_pair
from serving import Address, until

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
KIND = {"role": "system", "content": "be kind"}
ANSWERED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
NO_SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}
HI = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 12}


def chat(server, **fields):
    reply = server.address.post(CHAT, {**HI, **fields})
    assert reply.status == 200, reply.body
    return reply.json


def content(answer):
    return answer["choices"][0]["message"]["content"]


def generated(run, tiny, *options):
    return json.loads(run("generate", *tiny, "--json", "-q", "-m", "12", *options, "hi").text)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, ()),
        ({"blendin": {"method": "nudging"}}, ("--method", "nudging")),
        ({"blendin": {"method": "base"}}, ("--method", "base")),
        ({"blendin": {"tau": 0.9, "alpha": 0.7}}, ("--tau", "0.9", "--alpha", "0.7")),
        ({"blendin": {"base_template": "plain"}}, ("--base-template", "plain")),
        ({"temperature": 1.5, "seed": 7}, ("--temp", "1.5", "--seed", "7")),
        ({"temperature": 2, "seed": 7, "top_k": 4}, ("--temp", 2, "--seed", 7, "--top-k", 4)),
        ({"stop": "o"}, ("--stop", "o")),
        ({"messages": [KIND, *HI["messages"]]}, ("--system", "be kind")),
    ],
)
def test_an_answer_is_that_of_generate(pair_server, run, tiny, fields, options):
    alone = generated(run, tiny, *options)
    served = chat(pair_server, **fields)
    assert content(served) == alone["text"]
    (choice,) = served["choices"]
    assert choice["finish_reason"] == {"stop_string": "stop"}.get(alone["finish_reason"], "length")
    assert [token["id"] for token in choice["blendin"]["tokens"]] == alone["token_ids"]
    assert "".join(token["text"] for token in choice["blendin"]["tokens"]) == alone["text"]
    for name in ("method", "tau", "alpha", "interventions", "overrides"):
        assert choice["blendin"][name] == alone["blend"][name]
    assert served["usage"]["prompt_tokens"] == alone["usage"]["base_prompt_tokens"]
    assert served["usage"]["completion_tokens"] == alone["usage"]["completion_tokens"]


def test_a_model_id_stands_for_a_method(pair_server):
    for method in ("base", "aligned", "nudging"):
        by_name = chat(pair_server, model=f"{pair_server.model}:{method}")
        by_field = chat(pair_server, blendin={"method": method})
        assert content(by_name) == content(by_field)
        assert by_name["choices"][0]["blendin"]["method"] == method


def test_a_dial_at_zero_is_the_base_alone(pair_server):
    turned = chat(pair_server, model=f"{pair_server.model}:nudging", blendin={"dial": 0})
    assert content(turned) == content(chat(pair_server, blendin={"method": "base"}))
    assert chat(pair_server)["choices"][0]["blendin"]["interventions"] > 0  # it was turned back


def test_a_stream_has_the_same_text_and_tokens(pair_server):
    whole = chat(pair_server, logprobs=True, top_logprobs=2, blendin={"candidates": 2})
    asked = {"logprobs": True, "top_logprobs": 2, "stream": True, "blendin": {"candidates": 2}}
    choices = [c["choices"][0] for c in pair_server.address.post(CHAT, {**HI, **asked}).events]
    (choice,) = whole["choices"]
    assert "".join(one["delta"].get("content", "") for one in choices) == content(whole)
    shown = [t for one in choices for t in (one["logprobs"] or {}).get("content", [])]
    assert shown == choice["logprobs"]["content"]
    decided = [t for one in choices for t in one.get("blendin", {}).get("tokens", [])]
    assert decided == choice["blendin"]["tokens"]


def test_log_probabilities_agree_with_the_tokens(pair_server):
    (choice,) = chat(pair_server, logprobs=True, top_logprobs=3)["choices"]
    listed = choice["logprobs"]["content"]
    assert b"".join(bytes(one["bytes"]) for one in listed).decode() == choice["message"]["content"]
    for one in listed:
        assert [len(one["top_logprobs"]), one["top_logprobs"][0]["token"]] == [3, one["token"]]
        assert one["top_logprobs"][0]["logprob"] == pytest.approx(one["logprob"])
    (choice,) = chat(pair_server, logprobs=True, stop="o")["choices"]
    written = "".join(one["token"] for one in choice["logprobs"]["content"])
    assert written.startswith(choice["message"]["content"])
    assert "o" not in choice["message"]["content"]


def test_candidates_have_the_probabilities_of_both_models(pair_server):
    (choice,) = chat(pair_server, blendin={"candidates": 3})["choices"]
    asked = [token for token in choice["blendin"]["tokens"] if token["alpha"] is not None]
    assert asked
    for token in asked:
        assert [len(token["candidates"][role]) for role in ("base", "aligned", "blend")] == [3] * 3
        assert token["base"]["id"] == token["candidates"]["base"][0]["id"]


def test_a_seed_makes_answers_repeatable_and_n_of_them_differ(pair_server):
    warm = {"temperature": 3, "seed": 5, "n": 3}
    first, second = (chat(pair_server, **warm) for _ in range(2))
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert texts == [choice["message"]["content"] for choice in second["choices"]]
    assert len(set(texts)) == 3
    assert content(chat(pair_server, temperature=3, seed=6)) == texts[1]
    assert first["usage"]["prompt_tokens"] == chat(pair_server)["usage"]["prompt_tokens"]


def test_a_stop_string_ends_the_work_too(pair_server):
    (choice,) = chat(pair_server, stop=["o"], max_tokens=400)["choices"]
    assert choice["finish_reason"] == "stop"
    assert len(choice["blendin"]["tokens"]) < 50


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_kept_to(pair_server, stream):
    schema = {"type": "object", "properties": {"a": {"enum": ["yes", "no"]}}, "required": ["a"]}
    schema["additionalProperties"] = False  # type: ignore[assignment]
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    fields = {"response_format": format_, "max_tokens": 60, "stream": stream}
    reply = pair_server.address.post(CHAT, {**HI, **fields})
    if stream:
        deltas = [c["choices"][0]["delta"] for c in reply.events]
        text = "".join(delta.get("content", "") for delta in deltas)
    else:
        text = content(reply.json)
    assert json.loads(text)["a"] in ("yes", "no")
    object_ = chat(pair_server, response_format={"type": "json_object"}, max_tokens=5)
    assert content(object_).startswith("{")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"response_format": NO_SCHEMA}, "schema"),
        ({"messages": ANSWERED}, "user message"),
        ({"messages": [{"role": "user", "content": "cat " * 5000}]}, "holds 4096"),
        ({"messages": [{"role": "user", "content": "  "}]}, "empty"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_that_need_the_models(pair_server, fields, part, stream):
    reply = pair_server.address.post(CHAT, {**HI, **fields, "stream": stream})
    assert reply.status == 400
    assert part in reply.error["message"]


def test_completions_read_the_prompt_verbatim(pair_server):
    text = pair_server.address.post(TEXT, {"prompt": "the cat", "max_tokens": 4}).json
    (choice,) = text["choices"]
    assert (choice["text"], choice["finish_reason"]) != ("", "stop")
    assert text["usage"]["prompt_tokens"] < 8  # no template is around it
    again = pair_server.address.post(TEXT, {"prompt": ["the cat", "the cat"], "max_tokens": 4}).json
    assert [one["text"] for one in again["choices"]] == [choice["text"]] * 2
    echoed = pair_server.address.post(TEXT, {"prompt": "the cat", "max_tokens": 4, "echo": True})
    assert echoed.json["choices"][0]["text"] == f"the cat{choice['text']}"
    beyond = pair_server.address.post(TEXT, {"prompt": [10**6]})
    assert (beyond.status, beyond.error["param"]) == (400, "prompt")


@pytest.mark.parametrize("method", ["blendin", "base"])
def test_an_echo_is_scored_through_the_pair(pair_server, method):
    ids = pair_server.address.post("/tokenize", {"prompt": "the cat sat"}).json["tokens"]
    asked = {"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 1}
    asked["model"] = f"{pair_server.model}:{method}"
    (choice,) = pair_server.address.post(TEXT, asked).json["choices"]
    listed = choice["logprobs"]
    assert [len(values) for values in listed.values()] == [len(ids) + 1] * 4
    assert (listed["token_logprobs"][0], listed["top_logprobs"][0]) == (None, None)
    scored = listed["token_logprobs"][1:]
    assert all(
        a <= max(b.values()) for a, b in zip(scored, listed["top_logprobs"][1:], strict=True)
    )
    assert "".join(listed["tokens"]) == choice["text"]
    # a greedy answer, scored again, is the likeliest at each place, and as likely as it was
    more = {**asked, "max_tokens": 5}
    (whole,) = pair_server.address.post(TEXT, more).json["choices"]
    written = [token["id"] for token in whole["blendin"]["tokens"]]
    again = {**asked, "prompt": ids + written}
    (second,) = pair_server.address.post(TEXT, again).json["choices"]
    places = slice(len(ids), len(ids) + 5)
    assert second["logprobs"]["token_logprobs"][places] == pytest.approx(
        whole["logprobs"]["token_logprobs"][places], abs=1e-4
    )
    tops = [max(top.values()) for top in second["logprobs"]["top_logprobs"][places]]
    assert tops == second["logprobs"]["token_logprobs"][places]


@pytest.mark.parametrize("stream", [False, True])
def test_no_token_at_all_gives_the_scores_of_the_prompt_alone(pair_server, stream):
    asked = {"prompt": "the cat sat", "max_tokens": 0, "logprobs": 1, "echo": True}
    (more,) = pair_server.address.post(TEXT, {**asked, "max_tokens": 1}).json["choices"]
    reply = pair_server.address.post(TEXT, {**asked, "stream": stream})
    choices = [c["choices"][0] for c in reply.events] if stream else reply.json["choices"]
    assert "".join(choice["text"] for choice in choices) == "the cat sat"
    assert choices[-1]["finish_reason"] == "length"
    scored = more["logprobs"]["token_logprobs"][:-1]
    assert choices[0]["logprobs"]["token_logprobs"] == pytest.approx(scored, abs=1e-4)
    nothing = pair_server.address.post(TEXT, {"prompt": "the cat sat", "max_tokens": 0}).json
    assert (nothing["choices"][0]["text"], nothing["usage"]["completion_tokens"]) == ("", 0)
    assert nothing["usage"]["prompt_tokens"] == len(scored)
    for body in ({**HI, "max_tokens": 0}, {"prompt": "a", "max_completion_tokens": 0}):
        path = CHAT if "messages" in body else TEXT
        assert pair_server.address.post(path, body).status == 400


def test_an_echo_names_as_many_alternatives_as_were_asked_for(pair_server):
    asked = {"prompt": "the cat sat", "echo": True, "logprobs": 0}
    (choice,) = pair_server.address.post(TEXT, asked).json["choices"]
    assert choice["logprobs"]["top_logprobs"][1] == {}


def test_an_echo_is_scored_where_the_guide_has_no_beginning_of_text(tmp_path):
    """Its first token then has no probability: the guide has nothing to read before it."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    from chains import WORDS, write_chain

    base = write_chain(tmp_path / "base", WORDS, chat_template=False)
    aligned = write_chain(tmp_path / "aligned", WORDS[::-1])
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    begin = ("<|begin|>", tokenizer.token_to_id("<|begin|>"))
    tokenizer.post_processor = TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])
    tokenizer.save(str(base / "tokenizer.json"))
    with served_pair("--base", base, "--aligned", aligned) as server:
        asked = {"prompt": " one two three", "echo": True, "logprobs": 1, "max_tokens": 1}
        (choice,) = server.address.post(TEXT, asked).json["choices"]
    first, *others = choice["logprobs"]["token_logprobs"]
    assert first is None
    assert None not in others


def test_texts_are_cut_into_the_tokens_that_the_base_reads(pair_server):
    post = pair_server.address.post
    cut = post("/tokenize", {"prompt": "the cat", "add_special_tokens": False}).json
    assert cut["count"] == len(cut["tokens"])
    assert (cut["max_model_len"], cut["token_strs"]) == (4096, None)
    assert post("/detokenize", {"tokens": cut["tokens"]}).json == {"prompt": "the cat"}
    spelled = post("/tokenize", {"prompt": "the cat", "return_token_strs": True}).json
    assert spelled["tokens"][-len(cut["tokens"]) :] == cut["tokens"]
    assert "".join(spelled["token_strs"]).replace("Ġ", " ").endswith("the cat")
    asked = {"prompt": "the cat", "max_tokens": 3}
    assert post(TEXT, asked).json["choices"] == post(
        TEXT, {**asked, "prompt": cut["tokens"]}
    ).json["choices"]  # fmt: skip
    info = pair_server.address.ask("GET", "/tokenizer_info").json
    assert (info["eos_token"], info["bos_token"]) == ("<|end|>", "<|begin|>")
    assert post("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False}).json[
        "count"
    ] == 1  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, "messages"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "tokens"),
        ("/detokenize", {"tokens": [10**6]}, "tokens"),
    ],
)
def test_tokenize_refuses_bad_input(pair_server, path, body, param):
    reply = pair_server.address.post(path, body)
    assert (reply.status, reply.error["param"]) == (400, param)


def test_abandoned_requests_leave_nothing_behind(pair_server):
    """32 clients, most of which leave: those that stay get what they would get alone."""
    expected = content(chat(pair_server))
    long = json.dumps({**HI, "max_tokens": 400, "stream": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(long)}\r\n\r\n".encode() + long
    answers = []

    def client(number):
        if number % 4 == 0:
            answers.append(content(chat(pair_server)))
            return
        with pair_server.address.connect() as leaving:
            leaving.sendall(request[: -9 if number % 4 == 1 else None])
            if number % 4 == 2:
                until(leaving, b"data: ")

    threads = [threading.Thread(target=client, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert answers == [expected] * 8
    assert pair_server.address.ask("GET", "/health").status == 200


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it_in_order_while_it_answers(tiny, number, code):
    with served_pair(*tiny) as server, server.address.connect() as client:
        body = json.dumps({**HI, "max_tokens": 4000, "stream": True}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(client, b'"delta"')
        server.process.send_signal(number)
        assert b"shutting down" in until(client, b"shutting down")
        assert server.process.wait(DEADLINE_S) == code
    assert "Traceback" not in "".join(server.lines)


def test_a_thread_that_cannot_go_on_ends_the_server(tiny):
    """No server is left that answers 500 for ever, or hangs."""
    code = (
        "from blendin_cli.serve.decoding import Decoding\n"
        "def chat(self, *_):\n    yield\n    raise SystemExit('over')\n"
        "Decoding.chat = chat\n"
    )
    with served_pair(*tiny, code=code) as server:
        reply = server.address.post(CHAT, HI)
        assert reply.status == 503
        assert server.process.wait(DEADLINE_S) not in (0, None)


def test_damaged_weights_are_a_500_that_need_not_be_tried_again(tmp_path):
    import math

    from chains import WORDS, write_chain

    base = write_chain(tmp_path / "base", WORDS, spoilt={WORDS[1]: math.nan}, chat_template=False)
    aligned = write_chain(tmp_path / "aligned", WORDS)
    with served_pair("--base", base, "--aligned", aligned) as server:
        reply = server.address.post(CHAT, HI)
        assert reply.status == 500
        assert reply.headers["x-should-retry"] == "false"
        assert "not finite" in reply.error["message"]
        assert server.address.ask("GET", "/health").status == 503


def test_a_port_that_is_taken_is_one_line(run, tiny):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", *tiny, "--port", taken.getsockname()[1])
    assert result.code == 2
    assert "cannot listen" in result.error()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--host", "0.0.0.0"), "--api-key"),
        (("--host", "::"), "--api-key"),
        (("--api-key", ""), "--api-key is empty"),
        (("--host", "no.such.host.example"), "cannot listen on no.such.host.example"),
        (("--port", "99999"), "--port"),
        (("--method", "proxy-tuning"), "--reference"),
    ],
)
def test_bad_options_are_refused_before_models_are_loaded(run, tiny, options, part):
    result = run("serve", *tiny, "--port", 0, *options)
    assert result.code == 2
    assert part in result.err
    assert "Traceback" not in result.err


def test_with_a_key_other_machines_may_be_let_in(tiny):
    with served_pair(*tiny, "--host", "0.0.0.0", "--api-key", "sesame") as server:
        address = Address(server.address.port)
        assert address.ask("GET", "/v1/models").status == 401
        assert address.ask("GET", "/v1/models", Authorization="Bearer sesame").status == 200
        assert "sesame" not in "".join(server.lines)


def test_before_it_is_ready_it_says_that_it_loads(tiny):
    """The loading waits for a line on stdin here, so nothing depends on the time."""
    code = (
        "import sys, blendin_cli.serve.command as c\n"
        "load = c._load\n"
        "def slow(*arguments):\n    sys.stdin.readline()\n    return load(*arguments)\n"
        "c._load = slow\n"
    )
    from running import begin

    process = begin("serve", "--port", "0", *tiny, code=code)
    try:
        line = process.stderr.readline().decode()
        address = Address(int(line.split()[0].rsplit(":", 1)[1]))
        health = address.ask("GET", "/health")
        assert (health.status, health.json) == (503, {"status": "loading"})
        assert address.post(CHAT, HI).status == 503
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert any(b"is ready" in line for line in iter(process.stderr.readline, b""))
        assert address.post(CHAT, HI).status == 200
    finally:
        process.kill()
        process.communicate()
