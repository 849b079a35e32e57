"""The sockets, and the thread on which all connections are served."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import click

from .connection import App, Connection, Limits
from .errors import unavailable


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        click.UsageError: the address is unknown, not this machine's, or taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.UsageError(f"cannot listen on {host} port {port}: {reason}") from None


def is_loopback(listening: socket.socket) -> bool:
    """Return True if nobody but this machine can reach a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def address_of(listening: socket.socket) -> str:
    """Return where a socket can be reached, as ``http://127.0.0.1:8080``."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class HttpServer:
    """Serves an app on a thread of its own.

    Args:
        listening: the socket; it is closed at the end.
        app: answers the requests.
        limits: what a client may take.
        ended: called on that thread at its end.

    Attributes:
        failed: it ended by itself.

    Example:
        >>> with HttpServer(bind("127.0.0.1", 0), app, Limits(), engine.stop):
        ...     engine.run()
    """

    def __init__(
        self, listening: socket.socket, app: App, limits: Limits, ended: Callable[[], None]
    ) -> None:
        self._socket, self._app, self._limits, self._ended = listening, app, limits, ended
        self.failed = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self.failed = not self._stop.is_set()
            self._loop.close()
            self._ended()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket)
        await self._stop.wait()
        server.close()
        for task, connection in self._connections.items():
            if not connection.is_busy:
                task.cancel()
        if self._connections:  # what was answered by now is still sent
            await asyncio.wait(self._connections, timeout=self._limits.close_s)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = Connection(reader, writer, self._app, self._limits)
        is_one_too_many = len(self._connections) >= self._limits.connections
        self._connections[task] = connection
        try:
            with suppress(asyncio.CancelledError):  # only the end of the server cancels it
                if is_one_too_many:
                    await connection.refuse(unavailable("too many connections"))
                else:
                    await connection.serve()
        finally:
            del self._connections[task]
