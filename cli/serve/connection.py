"""HTTP/1.1 on one connection, with a limit on everything that a client may take.

h11 says what the bytes mean. Here is what it leaves open: time-outs for the head of a request, its
body, and a client that does not read; limits of size; and the end of a reply that nobody waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import h11

from .errors import ApiError, Headers

CHUNK = 2**16
LINGER_S = 2.0
GONE = "the client went away"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Limits:
    """What a client may take, in seconds and bytes.

    Attributes:
        idle_s: a connection without a request.
        head_s: from the first byte of a request to the end of its head.
        body_s: the body.
        write_s: until a client has taken what was written.
        pause_s: silence in a stream, then a comment says that the server lives.
        close_s: for answers that are under way when the server ends.
        pipelined_bytes: what may be sent while a request is answered.
    """

    idle_s: float = 60
    head_s: float = 10
    body_s: float = 30
    write_s: float = 30
    pause_s: float = 5
    close_s: float = 3
    head_bytes: int = 2**15
    body_bytes: int = 2**23
    pipelined_bytes: int = 2**16
    connections: int = 128


@dataclass(frozen=True)
class HttpRequest:
    """A whole request; names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class HttpReply:
    """A reply: its body at once, or as it comes.

    Attributes:
        note: what the log says of it, once it was sent.
        done: called once it was sent, or broken off.
    """

    status: int
    body: bytes | AsyncGenerator[bytes, None] = b""
    headers: Headers = ()
    note: Callable[[], str] = field(default=lambda: "")
    done: Callable[[], None] = field(default=lambda: None)


class App(Protocol):
    """What answers requests."""

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raise the ApiError that a request is by its head, before its body is read."""

    async def reply(self, request: HttpRequest) -> HttpReply:
        """Answer a request. It is cancelled when the client goes away."""

    def refusal(self, error: Exception) -> HttpReply:
        """Return the reply that an error is."""

    def log(self, request: HttpRequest | None, status: int, note: str) -> None:
        """Note a reply that was sent, or broken off; its status is 0 if none was begun."""


class _Over(Exception):  # noqa: N818 - no error: there is nothing more to do
    """The connection is of no use any more."""


class Connection:
    """One connection of a client, from its first request to its last.

    Args:
        reader, writer: its two directions.
        app: answers the requests.
        limits: what the client may take.

    Attributes:
        is_busy: a request is being answered.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, app: App, limits: Limits
    ) -> None:
        self._reader, self._writer, self._app, self._limits = reader, writer, app, limits
        self._is_head = False
        self.is_busy = False
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        writer.transport.set_write_buffer_limits(high=0)  # so that a slow reader is noticed

    async def serve(self) -> None:
        """Answer requests until the client or the server has had enough."""
        try:
            while True:
                await self._exchange()
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
        except (_Over, OSError, asyncio.TimeoutError):
            self._writer.transport.abort()
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        finally:
            await self._close()

    async def refuse(self, error: ApiError) -> None:
        """Answer whatever comes with an error, without reading it."""
        with suppress(OSError, asyncio.TimeoutError):
            await self._send(self._app.refusal(error))
        await self._close()

    async def _close(self) -> None:
        try:
            with suppress(OSError, asyncio.TimeoutError):
                if self._http.their_state is h11.SEND_BODY:  # else it may never see our refusal
                    await asyncio.wait_for(self._linger(), LINGER_S)
                self._writer.close()
                await asyncio.wait_for(self._writer.wait_closed(), self._limits.write_s)
        finally:
            self._writer.transport.abort()

    async def _linger(self) -> None:
        """Read, and throw away, what a client sends that was refused already."""
        self._writer.write_eof()
        while await self._reader.read(CHUNK):
            pass

    async def _exchange(self) -> None:
        """Read a request and answer it."""
        try:
            request = await self._read()
        except ApiError as error:
            await self._refuse(None, error)
            return
        self.is_busy = True
        work = asyncio.ensure_future(self._answer(request))
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.wait((work, gone))
        if work.cancelled():
            raise _Over
        work.result()
        self.is_busy = False

    async def _answer(self, request: HttpRequest) -> None:
        try:
            reply = await self._app.reply(request)
        except asyncio.CancelledError:
            self._app.log(request, 0, GONE)
            raise
        except Exception as error:
            await self._refuse(request, error)
            return
        note = GONE
        try:
            await self._send(reply)
            note = reply.note()
        finally:
            reply.done()
            self._app.log(request, reply.status, note)

    async def _refuse(self, request: HttpRequest | None, error: Exception) -> None:
        reply = self._app.refusal(error)
        self._app.log(request, reply.status, str(error))
        await self._send(reply)

    async def _read(self) -> HttpRequest:
        """Return the next request.

        Raises:
            ApiError: it is refused, and nothing more will be read.
        """
        try:
            head = await self._head()
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            method, path = head.method.decode(), head.target.decode("latin-1").partition("?")[0]
            self._app.check(method, path, headers)
            body = await self._body(headers)
        except h11.RemoteProtocolError as error:
            raise ApiError(error.error_status_hint, f"not HTTP as it should be: {error}") from None
        return HttpRequest(method, path, headers, body)

    async def _head(self) -> h11.Request:
        if not self._http.trailing_data[0]:
            await self._receive(self._limits.idle_s)
        event = await self._in_time(self._event(), self._limits.head_s, "head")
        if not isinstance(event, h11.Request):
            raise _Over
        self._is_head = event.method == b"HEAD"
        return event

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        most = self._limits.body_bytes
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 20 or int(length) > most):
            raise ApiError(413, f"the request is longer than {most} bytes")
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._http.send(go_on))
        return await self._in_time(self._data(most), self._limits.body_s, "body")

    async def _data(self, most: int) -> bytes:
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > most:
                raise ApiError(413, f"the request is longer than {most} bytes")
        return bytes(body)

    async def _in_time(self, value: Awaitable[Value], seconds: float, what: str) -> Value:
        try:
            return await asyncio.wait_for(value, seconds)
        except asyncio.TimeoutError:
            raise ApiError(408, f"the {what} of the request took too long") from None

    async def _event(self) -> Any:
        """Return what h11 makes of what the client sends next."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._receive(None)
        return event

    async def _receive(self, seconds: float | None) -> None:
        data = await asyncio.wait_for(self._reader.read(CHUNK), seconds)
        if not data:
            raise _Over
        self._http.receive_data(data)

    async def _gone(self) -> None:
        """Return once the client is gone, or sends what nobody waits for."""
        early = 0
        with suppress(OSError):
            while data := await self._reader.read(CHUNK):
                self._http.receive_data(data)
                early += len(data)
                if early > self._limits.pipelined_bytes:
                    return

    async def _send(self, reply: HttpReply) -> None:
        """Send a reply; one that has not been sent whole ends the connection."""
        headers = [*reply.headers]
        if isinstance(reply.body, bytes):
            headers.append(("Content-Length", str(len(reply.body))))
        if self._http.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(reply.status).phrase.encode()
        head = h11.Response(status_code=reply.status, headers=headers, reason=reason)
        await self._write(self._http.send(head))
        if not isinstance(reply.body, bytes):
            async with aclosing(reply.body) as chunks:
                async for data in chunks:
                    await self._write(self._http.send(h11.Data(data=data)))
        elif not self._is_head:
            await self._write(self._http.send(h11.Data(data=reply.body)))
        await self._write(self._http.send(h11.EndOfMessage()))

    async def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)
            await asyncio.wait_for(self._writer.drain(), self._limits.write_s)
