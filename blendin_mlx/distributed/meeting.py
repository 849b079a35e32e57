"""How machines meet: rank 0 listens, the others connect, and all say what they run."""

from __future__ import annotations

import platform
import socket
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from ..errors import MachineError
from .channel import Channel, Kind

Address = tuple[str, int]
_RETRY_S = 0.1  # between two attempts to connect
_REFUSED = 1  # the exit code of a rank that is sent away
_PACKAGES = ("blendin-mlx", "mlx", "mlx-lm")


def versions() -> dict[str, str]:
    """Return the versions that all machines must have: others may compute other numbers."""
    return {name: version(name) for name in _PACKAGES}


def receive_others(address: Address, patience_s: float, count: int = 1) -> list[Channel]:
    """Wait for the other ranks at an address of this machine; return the channels, by rank.

    Args:
        address: where to listen.
        patience_s: how long to wait for anything before it counts as hanging.
        count: how many other ranks there are.

    Raises:
        MachineError: not all come, or one is another version.
    """
    come = _accept(address, patience_s, count)
    channels = [Channel(one, f"a rank on {origin}", patience_s) for one, origin in come]
    try:
        ranks = {_checked(channel): channel for channel in channels}
        if sorted(ranks) != list(range(1, count + 1)):
            raise MachineError("other ranks came than were started; start all with mlx.launch")
        return [ranks[rank] for rank in sorted(ranks)]
    except MachineError:
        for channel in channels:
            with suppress(MachineError):
                channel.send(Kind.BYE, first=_REFUSED)
            channel.close()
        raise


def _checked(channel: Channel) -> int:
    """Return the rank of a machine of the same version; name the channel as it names itself."""
    message = channel.receive(waits=False)
    hello = message.described if message.kind is Kind.HELLO else None
    if not isinstance(hello, dict):
        raise MachineError(f"{channel.peer} does not speak blendin's language")
    rank = hello.get("rank")
    channel.peer = f"rank {rank} ({hello.get('host')})"
    if differing := _differing(hello.get("versions")):
        raise MachineError(
            f"{channel.peer} has {differing}; install the same versions on all machines"
        )
    return rank if isinstance(rank, int) else 0


def join(address: Address, patience_s: float, rank: int = 1) -> Channel:
    """Connect to rank 0; return the channel to it.

    Args:
        address: where it listens.
        patience_s: how long to wait for anything before it counts as hanging.
        rank: which rank this is.

    Raises:
        MachineError: it cannot be reached.
    """
    channel = Channel(_connect(address, patience_s), "rank 0", patience_s)
    hello = {"rank": rank, "versions": versions(), "host": platform.node()}
    channel.describe(Kind.HELLO, hello)
    return channel


def _differing(there: Any) -> str:
    """Return the packages whose versions differ, in words; nothing if none do."""
    here = versions()
    if not isinstance(there, dict):
        return "no versions"
    return ", ".join(
        f"{name} {there.get(name)}, not {own}"
        for name, own in here.items()
        if there.get(name) != own
    )


def _prompt(connection: socket.socket) -> socket.socket:
    """Return a TCP connection that sends at once, and notices a machine that was switched off."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


def _accept(
    address: tuple[str, int], patience_s: float, count: int
) -> list[tuple[socket.socket, str]]:
    """Wait for the other machines; return the connections and where they come from.

    Args:
        address: where to listen; nothing listens there afterwards.
        patience_s: how long to wait for the next one.
        count: how many there are.

    Raises:
        MachineError: not all came, or the address cannot be used.
    """
    host, port = address
    come: list[tuple[socket.socket, str]] = []
    try:
        with socket.create_server(address, backlog=count) as listening:
            listening.settimeout(patience_s)
            while len(come) < count:
                connection, (origin, *_) = listening.accept()
                come.append((_prompt(connection), str(origin)))
        return come
    except TimeoutError:
        missing = "rank 1" if count == 1 else f"{count - len(come)} of {count} ranks"
        raise MachineError(
            f"{missing} did not come to {host}:{port} within {patience_s:g} seconds; start all "
            "with mlx.launch"
        ) from None
    except OSError as error:
        raise MachineError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            "mlx.launch --starting-port chooses another port"
        ) from None


def _connect(address: tuple[str, int], patience_s: float) -> socket.socket:
    """Connect to the machine that listens, as soon as it does.

    Args:
        address: where it listens.
        patience_s: how long to try.

    Raises:
        MachineError: it cannot be reached.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection = _prompt(socket.create_connection(address, timeout=patience_s))
            if connection.getsockname() != connection.getpeername():
                return connection
            connection.close()  # where nobody listens, a socket may happen to reach itself
        except OSError as error:
            if time.monotonic() > deadline:
                host, port = address
                raise MachineError(
                    f"rank 0 cannot be reached at {host}:{port}: {error.strerror or error}"
                ) from None
            time.sleep(_RETRY_S)
