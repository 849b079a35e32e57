"""HTTP over real sockets: no client holds the server longer than its limits say."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import replace

import pytest

from blendin_cli.serve.connection import HttpReply, HttpRequest, Limits
from blendin_cli.serve.errors import ApiError
from serving import DEADLINE_S, served, until, until_closed

SHORT_S = 0.05
LARGE = b"x" * 2**24


class Echo:
    """Answers with the body of a request; what a path asks for besides is done too."""

    def __init__(self):
        self.lines = []
        self.gone = threading.Event()
        self.closed = threading.Event()

    def check(self, method, path, headers):
        if path == "/refused":
            raise ApiError(403, "no")

    async def reply(self, request: HttpRequest) -> HttpReply:
        if request.path == "/wait":
            await self.wait()
        if request.path == "/broken":
            raise RuntimeError("broken")
        if request.path == "/large":
            return HttpReply(200, LARGE)
        if request.path == "/stream":
            return HttpReply(200, self.stream(), done=self.closed.set)
        return HttpReply(200, request.body, [("X-Method", request.method)])

    async def wait(self):
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()

    async def stream(self):
        yield b"one"
        await self.wait()

    def refusal(self, error):
        status = error.status if isinstance(error, ApiError) else 500
        return HttpReply(status, str(error).encode())

    def log(self, request, status, note):
        self.lines.append((request and request.path, status, note))


@pytest.fixture
def app():
    return Echo()


@pytest.fixture
def serve(app):
    """``serve(head_s=0.1)``: where the app listens, with some limits of its own."""
    started = []

    def start(**limits):
        context = served(app, replace(Limits(), **limits))
        started.append(context)
        return context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def test_a_body_of_either_kind_arrives_whole(serve):
    address = serve()
    body = bytes(range(256)) * 999
    assert address.ask("POST", "/", body).body == body
    chunked = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    reply = address.send(chunked + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert reply.endswith(b"\r\n\r\nonetwo")


def test_a_connection_serves_many_requests_pipelined_too(serve):
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    last = request.replace(b"Host: a", b"Connection: close\r\nHost: a")
    reply = serve().send(request + b"one" + request + b"two" + last + b"end")
    assert [reply.index(part) for part in (b"one", b"two", b"end")] == sorted(
        reply.index(part) for part in (b"one", b"two", b"end")
    )
    assert reply.count(b"HTTP/1.1 200 OK") == 3


def test_head_has_no_body(serve):
    reply = serve().ask("HEAD", "/")
    assert (reply.status, reply.body, reply.headers["x-method"]) == (200, b"", "HEAD")


@pytest.mark.parametrize(
    "begun",
    [
        b"G",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
    ],
)
def test_half_a_request_is_given_up(serve, begun):
    reply = serve(head_s=SHORT_S, body_s=SHORT_S).send(begun)
    assert status(reply) == 408
    assert b"too long" in reply


def test_a_byte_now_and_then_does_not_prolong_the_limit(serve):
    address = serve(head_s=SHORT_S)
    with address.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.settimeout(SHORT_S / 10)
        reply = b""
        while not reply:  # ends with the server's limit, whatever is sent
            client.sendall(b"X-More: 1\r\n")
            try:
                reply = client.recv(2**16)
            except TimeoutError:
                continue
        assert status(reply) == 408


def test_an_idle_connection_is_closed_without_a_word(serve, app):
    with serve(idle_s=SHORT_S).connect() as client:
        assert until_closed(client) == b""
    assert app.lines == []


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2**16, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 99 + b"\r\n\r\n", 400),  # TLS
    ],
)
def test_malformed_http_is_refused(serve, app, request_, expected):
    reply = serve().send(request_)
    assert status(reply) == expected
    assert b"Connection: close" in reply
    assert app.lines[0][:2] == (None, expected)


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 9999", b"Content-Length: " + b"9" * 20, b"Transfer-Encoding: chunked"],
)
def test_a_body_beyond_the_limit_is_refused_while_it_comes(serve, head):
    request = b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n"
    chunk = b"400\r\n" + b"x" * 0x400 + b"\r\n"
    reply = serve(body_bytes=5000).send(request + chunk * 9)
    assert status(reply) == 413
    assert b"longer than 5000 bytes" in reply


def test_a_large_refused_body_does_not_cost_the_client_the_reason(serve):
    with serve(body_bytes=5000).connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
        client.sendall(b"x" * 2**20)
        assert status(until_closed(client)) == 413


def test_expect_100_continue_is_answered(serve):
    with serve().connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        client.sendall(b"one")
        assert until_closed(client).endswith(b"one")


def test_a_refused_head_is_answered_before_the_body(serve):
    reply = serve().send(b"POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n")
    assert status(reply) == 403


def test_a_fault_of_one_request_leaves_the_connection(serve):
    broken = b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n"
    good = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\none"
    reply = serve().send(broken + good)
    assert status(reply) == 500
    assert reply.endswith(b"one")


def test_a_client_that_does_not_read_is_given_up(serve, app):
    address = serve(write_s=SHORT_S)
    with address.connect(receive_buffer=4096) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: app.lines)
        assert address.ask("POST", "/", b"one").body == b"one"
        assert len(until_closed(client)) < len(LARGE)
    assert app.lines[0] == ("/large", 200, "the client went away")


@pytest.mark.parametrize("path", ["/wait", "/stream"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away_is_noticed(serve, app, path, reset):
    client = serve().connect()
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    if path == "/stream":
        until(client, b"one")
    if reset:  # the other side learns of it by an error, not by an end
        client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert app.gone.wait(DEADLINE_S)
    assert path == "/wait" or app.closed.wait(DEADLINE_S)
    wait_for(lambda: app.lines)
    assert app.lines[0][2] == "the client went away"


def test_endless_pipelining_is_given_up(serve, app):
    with serve(pipelined_bytes=5000).connect() as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        until(client, b"one")
        client.sendall(b"x" * 6000)
        assert until_closed(client) == b""
    assert app.gone.wait(DEADLINE_S)


def test_too_many_connections_are_refused(serve):
    address = serve(connections=2)
    first, second = address.connect(), address.connect()
    for client in (first, second):  # each is known to be served
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none")
        until(client, b"one")
    with address.connect() as third:
        assert status(until_closed(third)) == 503
    first.close()
    wait_for(lambda: address.ask("POST", "/", b"one").status == 200)
    second.close()


def test_at_the_end_no_client_is_waited_for(app):
    with served(app, replace(Limits(), close_s=SHORT_S)) as address:
        idle, waiting = address.connect(), address.connect()
        waiting.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        until(waiting, b"one")
    assert until_closed(idle) == b""
    assert app.closed.is_set()
    idle.close()
    waiting.close()


@pytest.mark.parametrize("path", ["/refused", "/"])
def test_at_the_end_a_client_that_is_still_sending_is_closed(app, path):
    with served(app) as address:
        client = address.connect()
        client.sendall(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n".encode()
        )
        client.sendall(b"x" * 99)
        assert status(until(client, b"\r\n\r\n")) in (403, 413)
    client.close()
    gc.collect()  # a socket left open would be reported here


def wait_for(condition):
    """Ask again and again; what is asked for must happen."""
    deadline = threading.Event()
    for _ in range(DEADLINE_S * 100):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError("it never happened")
