"""How two machines meet: one listens, the other connects, and both say what they run."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from ..errors import MachineError
from .channel import Channel, Kind, accept, connect

Address = tuple[str, int]
_REFUSED = 1  # the exit code of a rank that is sent away
_PACKAGES = ("blendin-mlx", "mlx", "mlx-lm")


def versions() -> dict[str, str]:
    """Return the versions that both machines must have: others may compute other numbers."""
    return {name: version(name) for name in _PACKAGES}


def receive_other(address: Address, patience_s: float) -> Channel:
    """Wait for rank 1 at an address of this machine; return the channel to it.

    Args:
        address: where to listen.
        patience_s: how long to wait for anything before it counts as hanging.

    Raises:
        MachineError: it does not come, or is another version.
    """
    connection, origin = accept(address, patience_s)
    channel = Channel(connection, f"rank 1 on {origin}", patience_s)
    try:
        return _checked(channel)
    except MachineError:
        with suppress(MachineError):
            channel.send(Kind.BYE, first=_REFUSED)
        channel.close()
        raise


def _checked(channel: Channel) -> Channel:
    """Return the channel, named as the other machine names itself, if that is the same version."""
    message = channel.receive(waits=False)
    hello = message.described if message.kind is Kind.HELLO else None
    if not isinstance(hello, dict):
        raise MachineError(f"{channel.peer} does not speak blendin's language")
    channel.peer = f"rank 1 ({hello.get('host')})"
    if differing := _differing(hello.get("versions")):
        raise MachineError(
            f"{channel.peer} has {differing}; install the same versions on both machines"
        )
    return channel


def join(address: Address, patience_s: float) -> Channel:
    """Connect to rank 0; return the channel to it.

    Args:
        address: where it listens.
        patience_s: how long to wait for anything before it counts as hanging.

    Raises:
        MachineError: it cannot be reached.
    """
    channel = Channel(connect(address, patience_s), "rank 0", patience_s)
    channel.describe(Kind.HELLO, {"versions": versions(), "host": platform.node()})
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
