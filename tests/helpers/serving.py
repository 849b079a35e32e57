"""Servers for tests: HTTP over real sockets, with scripted work or as a process."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blendin_cli.serve.connection import App, Limits
from blendin_cli.serve.server import HttpServer, bind

DEADLINE_S = 300


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The error object, whose form is checked."""
        (error,) = self.json.values()
        assert list(error) == ["message", "type", "param", "code"]
        return error

    @property
    def events(self) -> list[Any]:
        """The objects of a stream that was ended as it should be."""
        *events, last = self.body.decode().removesuffix("\n\n").split("\n\n")
        assert last == "data: [DONE]"
        return [json.loads(e.removeprefix("data: ")) for e in events if not e.startswith(":")]


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A socket of our own."""
        made = socket.socket()
        made.settimeout(DEADLINE_S)
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.connect((self.host, self.port))
        return made

    def send(self, data: bytes) -> bytes:
        """Send bytes as they are; everything that comes until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return until_closed(client)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """A request as a program sends it; a body that is no bytes is sent as JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            sent = {"Content-Type": "application/json", **sent}
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            known = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, known, reply.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)


def until_closed(client: socket.socket) -> bytes:
    """Everything that a server sends until it closes, or breaks off."""
    data = b""
    try:
        while more := client.recv(2**16):
            data += more
    except ConnectionResetError:
        pass
    return data


def until(client: socket.socket, wanted: bytes) -> bytes:
    """Everything that a server sends up to the chunk with these bytes."""
    data = b""
    while wanted not in data:
        more = client.recv(2**16)
        assert more, f"{wanted!r} never came, but {data!r}"
        data += more
    return data


@contextmanager
def served(
    app: App, limits: Limits | None = None, ended: Callable[[], None] = lambda: None
) -> Iterator[Address]:
    """An app on a free port."""
    listening = bind("127.0.0.1", 0)
    with HttpServer(listening, app, limits or Limits(), ended):
        yield Address(listening.getsockname()[1])


@contextmanager
def running(target: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """A function on a thread of its own, told to stop at the end."""
    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
