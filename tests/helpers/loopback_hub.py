"""A hub on the loopback: the routes that downloads use, and everything that goes wrong.

A fault is met by the N-th request that its text occurs in, or by that one and all later ones.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from hub_repo import LFS, Repo, oid, sha256

PATIENCE_S = 120
PIECE = 4096
MOST_PIECES = 1000  # of an answer without end
# What the hub says with each refusal: status, X-Error-Code, words.
REFUSALS = {
    "401": (401, None, "Invalid username or password."),
    "403": (403, None, "Forbidden"),
    "404": (404, "RepoNotFound", "Repository not found"),
    "gated": (403, "GatedRepo", "Access to this model is restricted."),
    "429": (429, None, "Too many requests"),
    "500": (500, None, "Internal error"),
    "503": (503, None, "Unavailable"),
}


@dataclass(frozen=True)
class Request:
    """A request: ``GET /path``, and its headers."""

    line: str
    headers: Mapping[str, str]


@dataclass
class Fault:
    """A fault, and which of the requests that contain a text it hits."""

    kind: str
    of: str
    at: int
    for_ever: bool
    seen: int = 0

    def meets(self, line: str) -> bool:
        if self.of not in line:
            return False
        self.seen += 1
        return self.seen == self.at or (self.for_ever and self.seen > self.at)


class LoopbackHub:
    """A running hub; ``with LoopbackHub({"org/name": {"config.json": b"{}"}}) as hub:``."""

    def __init__(self, repos: Mapping[str, dict[str, bytes]]) -> None:
        self.repos = {name: Repo(files) for name, files in repos.items()}
        self.requests: list[Request] = []
        self.stalled = threading.Event()  # a request has met a stall
        self.lies: dict[str, str] = {}  # headers that every answer has in place of its own
        self.redirects: dict[str, str] = {}  # from a path to an address
        self.ignores_ranges = False
        self._released = threading.Event()
        self._faults: list[Fault] = []
        self._news = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.heal()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fault(self, kind: str, of: str = "", at: int = 1, for_ever: bool = False) -> None:
        """Inject a fault from now on."""
        self._released = threading.Event()
        self.stalled.clear()
        self._faults = [Fault(kind, of, at, for_ever)]

    def heal(self) -> None:
        """Remove all faults, and release stalled responses."""
        self._faults = []
        self._released.set()

    def asked(self, text: str) -> int:
        """Return how many requests contained a text."""
        return sum(text in request.line for request in self.requests)

    def wait_for(self, text: str, count: int) -> None:
        """Wait until `count` requests contained a text."""
        with self._news:
            assert self._news.wait_for(lambda: self.asked(text) >= count, PATIENCE_S)

    def _met(self, request: Request) -> tuple[str | None, threading.Event]:
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
            kinds = [fault.kind for fault in self._faults if fault.meets(request.line)]
            return (kinds[0] if kinds else None), self._released


class _Server(ThreadingHTTPServer):
    hub: LoopbackHub
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of clients that hang up, as many tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *words: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self.kind, self.released = self.server.hub._met(
            Request(f"{self.command} {self.path}", dict(self.headers.items()))
        )
        refusal, _, how = (self.kind or "").partition(" without ")
        if refusal in REFUSALS:
            self.kind = "endless" if how else self.kind
            self._refuse(*REFUSALS[refusal])
        elif self.kind == "reset":
            self._reset()
        elif self.kind == "stall":
            self._stall()
        elif place := self.server.hub.redirects.get(self.path):
            self._send(307, {"Location": place}, b"elsewhere")
        else:
            self._route(urlsplit(self.path).path.strip("/"))

    do_HEAD = do_GET  # noqa: N815 - the name that is looked for

    def _route(self, path: str) -> None:
        parts = [unquote(part) for part in path.removeprefix("api/models/").split("/")]
        name, (verb, revision, *rest) = "/".join(parts[:2]), parts[2:]
        repo = self.server.hub.repos.get(name)
        if repo is None:
            self._refuse(*REFUSALS["404"])
        elif revision not in (*repo.names, repo.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif verb == "resolve":
            self._send_file(repo, "/".join(rest))
        elif verb == "tree":
            self._send_json([repo.describe(file, tree=True) for file in repo.files])
        else:
            blobs = "blobs" in parse_qs(urlsplit(self.path).query)
            siblings = [repo.describe(file, tree=False) for file in repo.files] if blobs else []
            self._send_json({"id": name, "sha": repo.commit, "siblings": siblings})

    def _send_json(self, content: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _send_file(self, repo: Repo, name: str) -> None:
        if name not in repo.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        data = repo.files[name]
        etag = sha256(data) if name.endswith(LFS) else oid(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        wanted = "bytes=0-" if self.server.hub.ignores_ranges else self.headers.get("Range")
        start = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")[0]
        if int(start):
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if int(start) else 200, headers, data[int(start) :])

    def _refuse(self, status: int, code: str | None, words: str) -> None:
        words += f" (you sent {self.headers.get('Authorization')})"  # a careless hub
        headers = {"X-Error-Message": words, **({"X-Error-Code": code} if code else {})}
        self._send(status, headers, json.dumps({"error": words}).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if self.kind == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if self.kind == "short" and self.command == "GET":
            body = body[:-1]
        if self.kind == "endless":
            headers = {**headers, "Transfer-Encoding": "chunked"}
        if self.kind == "compressed":
            headers, body = {**headers, "Content-Encoding": "gzip"}, gzip.compress(bytes(10**6))
        self.send_response(status)
        for name, value in {**headers, **self.server.hub.lies}.items():
            self.send_header(name, value)
        if self.kind == "cut" and self.command == "HEAD":
            self.close_connection = True
            return  # the headers were never sent
        if self.kind != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.kind == "endless":
            self._send_for_ever()
        elif self.command == "GET":
            self._send_body(body)

    def _send_body(self, body: bytes) -> None:
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if self.kind == "cut":
            self.close_connection = True
        elif self.kind == "reset half-way":
            self._reset()
        elif self.kind == "slow":
            self._trickle(body[half:])
        else:
            if self.kind == "stall half-way":
                self._stall()
            self.wfile.write(body[half:])

    def _send_for_ever(self) -> None:
        """Send until the client has had enough; a client that never has reads a whole answer."""
        for _ in range(MOST_PIECES):
            self.wfile.write(b"%x\r\n%b\r\n" % (PIECE, bytes(PIECE)))
        self.wfile.write(b"0\r\n\r\n")

    def _trickle(self, body: bytes) -> None:
        for start in range(0, len(body), PIECE):
            self.wfile.write(body[start : start + PIECE])
            self.wfile.flush()
            self.server.hub.stalled.set()
            self.released.wait(0.01)

    def _stall(self) -> None:
        """Stall the response until the hub is healed, then continue it."""
        self.server.hub.stalled.set()
        self.released.wait(PATIENCE_S)
        if self.kind == "stall":
            self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)  # closing drops what is under way
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(self.connection.detach())
