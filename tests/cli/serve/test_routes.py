"""The server from outside: what it answers, to whom, and what it does when things go wrong."""

from __future__ import annotations

import json
import threading

import pytest

from blendin_cli.serve.guard import Guard
from blendin_mlx.errors import NumericalError, PromptError
from scripted_server import Script, scripted_server, words
from serving import DEADLINE_S, until, until_closed

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = {"messages": [{"role": "user", "content": "hi"}]}
STREAM = {**HI, "stream": True}
KEY = {"Authorization": "Bearer sesame"}


@pytest.fixture
def server():
    with scripted_server() as running:
        yield running


def request(body, path=CHAT, host=b"127.0.0.1"):
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n".encode()
    return head + b"Host: %b\r\nContent-Length: %d\r\n\r\n" % (host, len(data)) + data


def test_an_answer_is_one_object(server):
    reply = server.address.post(CHAT, {"model": "P:nudging", **HI})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    answer = reply.json
    assert (answer["object"], answer["model"]) == ("chat.completion", "P:nudging")
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "one two"}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert choice["blendin"]["interventions"] == 1
    assert [(t["source"], t["alpha"]) for t in choice["blendin"]["tokens"]] == [
        ("blend", 0.5),
        ("base", None),
    ]
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    (asked, index) = server.script.asked[0]
    assert (asked.settings.method, index) == ("nudging", 0)


def test_a_stream_has_the_chunks_that_clients_expect(server):
    reply = server.address.post(CHAT, {**STREAM, "stream_options": {"include_usage": True}})
    assert reply.headers["content-type"].startswith("text/event-stream")
    first, *deltas, last, usage = reply.events
    assert {chunk["object"] for chunk in reply.events} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in reply.events}) == 1
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"]["content"] for chunk in deltas] == ["one", " two"]
    assert {chunk["choices"][0]["finish_reason"] for chunk in (first, *deltas)} == {None}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert {chunk["usage"] for chunk in (first, *deltas, last)} == {None}
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def test_a_stream_without_usage_does_not_speak_of_it(server):
    assert all("usage" not in chunk for chunk in server.address.post(CHAT, STREAM).events)


def test_log_probabilities_are_streamed_in_their_form(server):
    asked = {**HI, "logprobs": True, "top_logprobs": 1}
    token = {"token": "one", "logprob": -0.5, "bytes": [111, 110, 101]}
    (choice,) = server.address.post(CHAT, asked).json["choices"]
    assert choice["logprobs"]["content"][0] == {**token, "top_logprobs": [token]}
    assert len(choice["logprobs"]["content"]) == 2
    chunks = server.address.post(CHAT, {**asked, "stream": True}).events
    streamed = [t for c in chunks for t in (c["choices"][0]["logprobs"] or {}).get("content", [])]
    assert streamed == choice["logprobs"]["content"]


def test_a_completion_has_its_own_form(server):
    reply = server.address.post(TEXT, {"prompt": ["a", "b"], "n": 2, "logprobs": 1}).json
    assert reply["object"] == "text_completion"
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
    assert reply["choices"][3]["text"] == "one two"
    assert reply["choices"][3]["logprobs"] == {
        "tokens": ["one", " two"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"one": -0.5}, {" two": -0.5}],
        "text_offset": [0, 3],
    }
    assert reply["usage"] == {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}
    chunks = server.address.post(TEXT, {"prompt": "a", "stream": True}).events
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["one", " two", ""]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


def test_several_answers_are_told_apart(server):
    choices = server.address.post(CHAT, {**HI, "n": 3}).json["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    chunks = server.address.post(CHAT, {**STREAM, "n": 2}).events
    for index in (0, 1):
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in own) == "one two"
        assert [c["finish_reason"] for c in own] == [None, None, None, "stop"]


@pytest.mark.parametrize("opened", [False, True])
def test_thinking_is_apart_from_the_answer(opened):
    texts = ("" if opened else "<thi", "" if opened else "nk>", "Hm", ".</th", "ink>\n\n", "Yes.")
    with scripted_server(Script(words(*texts), thinking=opened)) as server:
        message = server.address.post(CHAT, HI).json["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("Hm.", "Yes.")
        deltas = [c["choices"][0]["delta"] for c in server.address.post(CHAT, STREAM).events]
        for name in ("reasoning_content", "content"):
            assert "".join(delta.get(name, "") for delta in deltas) == message[name]


def test_the_models_are_the_methods(server):
    ids = [model["id"] for model in server.address.ask("GET", "/v1/models").json["data"]]
    assert ids[:3] == ["P", "P:base", "P:aligned"]
    for model in ids:
        assert server.address.ask("GET", f"/v1/models/{model}").json["id"] == model
    assert server.address.ask("GET", "/v1/models/P%3Abase").json["id"] == "P:base"
    missing = server.address.ask("GET", "/v1/models/gpt-4")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("model", ["gpt-4", "/etc/passwd", "https://a.example/b", "P:dance", ""])
def test_no_other_model_is_ever_taken(server, model):
    reply = server.address.post(CHAT, {"model": model, **HI})
    assert model == "" or (reply.status, reply.error["param"]) == (404, "model")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/v1/nothing", None, {}, 404),
        ("GET", "/../../etc/passwd", None, {}, 404),
        ("GET", CHAT, None, {}, 405),
        ("PUT", CHAT, HI, {}, 405),
        ("POST", "/health", HI, {}, 405),
        ("DELETE", "/v1/models/P", None, {}, 405),
        ("POST", CHAT, json.dumps(HI).encode(), {"Content_Type": "text/plain"}, 415),
        ("POST", CHAT, b"a=b", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", CHAT, json.dumps(HI).encode(), {}, 415),
        ("POST", CHAT, b"{", {"Content_Type": "application/json"}, 400),
        ("POST", CHAT, b"\xff\xfe", {"Content_Type": "application/json"}, 400),
        ("POST", CHAT, b'{"seed": NaN}', {"Content_Type": "application/json"}, 400),
        ("POST", CHAT, b"[" * 99999, {"Content_Type": "application/json"}, 400),
        ("POST", CHAT, [], {}, 400),
        ("POST", CHAT, {"messages": []}, {}, 400),
    ],
)
def test_refused_requests_have_a_reason(server, method, path, body, headers, status):
    reply = server.address.ask(method, path, body, **headers)
    assert reply.status == status
    assert reply.error["message"]
    assert reply.error["type"] == "invalid_request_error"
    assert (status == 405) == ("allow" in reply.headers)


def test_a_request_without_a_length_is_refused(server):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\r\n"
    assert b" 411 " in server.address.send(head.encode()).splitlines()[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8080", 200),
        ("10.1.2.3", 200),  # an address cannot be rebound
        ("box.lan:8080", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("evil.example@127.0.0.1", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
    ],
)
def test_only_known_hosts_are_answered(host, status):
    with scripted_server(guard=Guard(None, hosts=["box.lan"])) as server:
        assert server.address.ask("GET", "/health", Host=host).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://127.0.0.1", 200),  # the page that this server itself has
        ("https://chat.example", 200),
        ("http://chat.example", 403),
        ("https://evil.example", 403),
        ("http://localhost:3000", 403),
        ("null", 403),
    ],
)
def test_only_known_pages_may_ask(origin, status):
    with scripted_server(guard=Guard(None, origins=["https://chat.example"])) as server:
        headers = {"Host": "127.0.0.1"} | ({} if origin is None else {"Origin": origin})
        reply = server.address.post(CHAT, HI, **headers)
        assert reply.status == status
        assert len(server.script.asked) == (status == 200)
        shared = reply.headers.get("access-control-allow-origin")
        assert shared == (origin if status == 200 else None)
        wanted = {**headers, "Access_Control_Request_Method": "POST"}
        if origin is not None:
            before = server.address.ask("OPTIONS", CHAT, **wanted)
            assert before.status == (204 if status == 200 else 403)


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Basic sesame", "sesame", "Bearer ", "é"])
def test_requests_without_the_key_get_401(given):
    with scripted_server(guard=Guard("sesame")) as server:
        headers = {} if given is None else {"Authorization": given}
        for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/nothing")):
            reply = server.address.ask(method, path, HI if method == "POST" else None, **headers)
            assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
            assert reply.headers["www-authenticate"] == "Bearer"
        assert server.script.asked == []
        assert server.address.post(CHAT, HI, **KEY).status == 200
        assert server.address.ask("GET", "/health").status == 200


def test_until_the_models_are_loaded_it_says_so():
    with scripted_server(loaded=False) as server:
        reply = server.address.post(CHAT, HI)
        assert (reply.status, reply.error["type"]) == (503, "server_error")
        assert "loaded" in reply.error["message"]


def test_health_follows_the_decoding_thread():
    script = Script([RuntimeError("broken")])
    with scripted_server(script) as server:
        health = server.address.ask("GET", "/health")
        assert (health.status, health.json) == (200, {"status": "ready"})
        assert server.address.post(CHAT, HI).status == 500
        health = server.address.ask("GET", "/health")
        assert (health.status, health.json) == (503, {"status": "failing"})
        script.parts = words("one")
        assert server.address.post(CHAT, HI).status == 200
        assert server.address.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PromptError("the prompt has 9 tokens, the context holds 5"), 400),
        (ValueError("tau must be less"), 400),
        (NumericalError("the base produced logits that are not finite"), 500),
        (KeyError("x"), 500),
    ],
)
def test_a_failure_before_the_first_token_is_a_status(error, status):
    with scripted_server(Script([error])) as server:
        for body in (HI, STREAM):
            reply = server.address.post(CHAT, body)
            assert reply.status == status
            assert reply.headers.get("x-should-retry") == ("false" if status == 500 else None)
            assert reply.error["type"] == ("server_error" if status == 500 else reply.error["type"])
        server.script.parts = words("one")
        assert server.address.post(CHAT, HI).status == 200


def test_a_failure_in_the_middle_of_a_stream_is_an_event():
    with scripted_server(Script([*words("one")[:1], NumericalError("not finite")])) as server:
        reply = server.address.post(CHAT, STREAM)
        assert reply.status == 200
        *_, last = reply.body.decode().removesuffix("\n\n").split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["message"] == "not finite"
        assert "[DONE]" not in last


@pytest.mark.parametrize("body", [HI, STREAM])
def test_a_client_that_goes_away_frees_the_thread_within_one_step(body):
    script = Script(words(*"abcdefgh"), threading.Semaphore(0))
    with scripted_server(script) as server:
        client = server.address.connect()
        client.sendall(request(body))
        until_steps(script, 1)
        client.close()
        until_line(server, "the client went away")
        script.gate.release()
        assert script.stopped.wait(DEADLINE_S)
        assert script.steps == 1
        script.gate = None
        assert server.address.post(CHAT, HI).status == 200


def test_a_client_that_goes_away_while_it_waits_is_never_begun():
    script = Script(words("a", "b"), threading.Semaphore(0))
    with scripted_server(script) as server:
        first = server.address.connect()
        first.sendall(request(HI))
        until_steps(script, 1)
        with server.address.connect() as second:
            second.sendall(request(HI))
            poll(lambda: server.engine._unfinished == 2)
        until_line(server, "the client went away")
        script.gate.release(9)
        assert b'"content": "ab"' in until(first, b"usage")
        assert len(script.asked) == 1
        first.close()


def test_a_full_queue_says_when_to_come_again():
    script = Script(words("a", "b"), threading.Semaphore(0))
    with scripted_server(script, queue=2) as server:
        waiting = [server.address.connect() for _ in range(2)]
        for client in waiting:
            client.sendall(request(HI))
        poll(lambda: server.engine._unfinished == 2)
        reply = server.address.post(CHAT, HI)
        assert (reply.status, reply.error["type"]) == (429, "rate_limit_error")
        assert int(reply.headers["retry-after"]) > 0
        assert server.address.ask("GET", "/health").status == 200
        script.gate.release(9)
        for client in waiting:
            assert b"200 OK" in until(client, b"usage")
            client.close()
        assert server.address.post(CHAT, {**HI, "n": 3}).status == 400  # it would never fit


def test_a_slow_reader_does_not_block_other_requests():
    script = Script(words(*["x" * 9999] * 999))
    with scripted_server(script, write_s=0.05) as server:
        with server.address.connect(receive_buffer=4096) as client:
            client.sendall(request(STREAM))
            until_line(server, "the client went away")
        script.parts = words("one")
        assert server.address.post(CHAT, HI).json["choices"][0]["message"]["content"] == "one"


def test_a_silent_stream_shows_that_it_lives():
    script = Script(words("a", "b"), threading.Semaphore(0))
    with scripted_server(script, pause_s=0.01) as server, server.address.connect() as client:
        client.sendall(request(STREAM))
        for _ in range(2):
            until(client, b": working")
        script.gate.release(9)
        assert b'"content": "b"' in until(client, b"[DONE]")


def test_a_long_wait_before_the_first_token_is_a_stream_already():
    script = Script([PromptError("too long")], threading.Semaphore(0))
    gate, script.gate = script.gate, None
    chat = script.chat

    def slow(request, index, should_stop):
        assert gate.acquire(timeout=DEADLINE_S)
        yield from chat(request, index, should_stop)

    script.chat = slow
    with scripted_server(script, pause_s=0.01) as server, server.address.connect() as client:
        client.sendall(request(STREAM))
        assert b"200 OK" in until(client, b": working")
        gate.release()
        assert b'"message": "too long"' in until(client, b"error")


@pytest.mark.parametrize("body", [HI, STREAM])
def test_waiting_requests_are_answered_at_shutdown(body):
    script = Script(words("a", "b"), threading.Semaphore(0))
    with scripted_server(script) as server:
        client = server.address.connect()
        client.sendall(request(body))
        until_steps(script, 1)
        server.engine.stop()
        script.gate.release(9)
        assert b"shutting down" in until(client, b"shutting down")
        client.close()
        reply = server.address.post(CHAT, HI)
        assert reply.status == 503
        assert server.address.ask("GET", "/health").json == {"status": "stopped"}


def test_log_lines_tell_what_was_done_and_not_what_was_asked():
    secret = {"messages": [{"role": "user", "content": "secret"}]}
    with scripted_server() as server:
        server.address.post(CHAT, secret)
        server.address.post(CHAT, {**secret, "tools": [{"secret": 1}]})
        until_line(server, "400")
        lines = "\n".join(server.lines)
        assert "secret" not in lines
        assert f"POST {CHAT} 200, 2 tokens, 1 interventions, end: stop" in lines
    with scripted_server(log_bodies=True) as server:
        server.address.post(CHAT, secret)
        until_line(server, "secret")


def test_replies_are_not_kept_and_not_guessed_at(server):
    for reply in (
        server.address.post(CHAT, HI),
        server.address.post(CHAT, STREAM),
        server.address.ask("GET", "/"),
        server.address.ask("GET", "/v1/nothing"),
    ):
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_many_clients_at_once_are_all_answered(server):
    answers = []

    def ask():
        answers.append(server.address.post(CHAT, HI).status)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert answers == [200] * 8


def test_a_stream_survives_separators_of_lines_in_text():
    with scripted_server(Script(words("a\u2028b\x85c\nd"))) as server:
        body = server.address.post(CHAT, STREAM).body
        assert body.isascii()
        lines = body.decode().splitlines()
        assert "a\u2028b\x85c\nd" in [
            json.loads(line[6:])["choices"][0]["delta"].get("content")
            for line in lines
            if line.startswith("data: {")
        ]


def test_text_that_follows_a_closed_connection_is_not_waited_for(server):
    with server.address.connect() as client:
        client.sendall(request(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert until_closed(client).endswith(b"[DONE]\n\n")


def until_steps(script, count):
    poll(lambda: script.steps >= count)


def until_line(server, part):
    poll(lambda: any(part in line for line in server.lines))


def poll(condition):
    """Ask again and again; what is asked for must happen."""
    pause = threading.Event()
    for _ in range(DEADLINE_S * 100):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never happened")
