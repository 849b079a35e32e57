"""Started by ``mlx.launch`` on two machines: rank 0 is the command, rank 1 runs the guide for it.

Where it was not, nothing of this is imported.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from .errors import FAILURE, USAGE, explain
from .options.settings import Settings

if TYPE_CHECKING:
    from blendin_mlx.distributed.channel import Channel
    from blendin_mlx.distributed.leader import Leader
    from blendin_mlx.model import Pair
    from blendin_models.pair import PairSpec
    from blendin_models.progress import Progress

COMMANDS = ("generate", "chat", "run")
TIMEOUT = "BLENDIN_MACHINES_TIMEOUT"
_PATIENCE_S = 60.0
_LEAVING_S = 10.0  # how long a command that needs no guide waits for rank 1, to send it home


@dataclass
class Group:
    """The machines that ``mlx.launch`` started this command on.

    Attributes:
        rank: which of them this is.
        address: where rank 0 listens.
        patience_s: how many seconds without progress end both.
        problem: why nothing can run on them, in a line; None if it can.
        sought: whether rank 0 has looked for the other machine.
        leader: what rank 0 has of the other machine, once they have met.
    """

    rank: int
    address: tuple[str, int] = ("", 0)
    patience_s: float = _PATIENCE_S
    problem: str | None = None
    sought: bool = False
    leader: Leader | None = None


@cache
def group() -> Group | None:
    """Return the group that this process belongs to; None if there is no other machine."""
    if (rank := os.environ.get("MLX_RANK")) is None:
        return None
    try:
        with open(os.environ["MLX_HOSTFILE"], encoding="utf-8") as file:
            hosts = json.loads(file.read().strip() or "[]")
        if len(hosts) < 2:
            return None
        host, port = hosts[0][0].rsplit(":", 1)
        found = Group(int(rank), (host, int(port)))
    except (KeyError, OSError, ValueError, TypeError, IndexError, AttributeError):
        unknown = "the hosts of mlx.launch are not known; start with mlx.launch --backend ring"
        return Group(0 if rank == "0" else 1, problem=unknown)
    if len(hosts) > 2:
        found.problem = f"a pair runs on two machines, not on {len(hosts)}; use mlx.launch -n 2"
    given = os.environ.get(TIMEOUT) or f"{_PATIENCE_S}"
    if not (given.replace(".", "", 1).isdecimal() and float(given) > 0):
        found.problem = f"{TIMEOUT}={given} is not a number of seconds above 0"
    found.patience_s = float(given) if found.problem is None else _PATIENCE_S
    return found


def check_command(name: str | None) -> None:
    """Refuse what does not run on several machines.

    Args:
        name: the command; None if there is none.

    Raises:
        click.UsageError: it does not.
    """
    if (machines := group()) is None:
        return
    if machines.problem is not None:
        raise click.UsageError(machines.problem)
    if name is not None and name not in COMMANDS:
        raise click.UsageError(
            f"blendin {name} runs on one machine; on two do {', '.join(COMMANDS)}"
        )


def check_settings(settings: Settings) -> None:
    """Refuse options that do not work where the guide is on another machine.

    Raises:
        click.UsageError: one does not.
    """
    if settings.prompt_cache is not None and group() is not None:
        raise click.UsageError("--prompt-cache works on one machine only")


def load(spec: PairSpec, report: Progress) -> Pair:
    """Load a pair: all of it, or what belongs on this one of two machines.

    Args:
        spec: the pair.
        report: told how far it is.
    """
    from blendin_models.pair import load_spec

    if (machines := group()) is None:
        return load_spec(spec, report)
    from blendin_models.two_machines import load_base

    return load_base(spec, _lead(machines, machines.patience_s), report)


def _lead(machines: Group, patience_s: float) -> Leader:
    """Meet rank 1, unless that was done; return what rank 0 has of it."""
    if machines.leader is None:
        from blendin_mlx.distributed.leader import Leader
        from blendin_mlx.distributed.meeting import receive_other

        machines.sought = True
        machines.leader = leader = Leader(receive_other(machines.address, patience_s))

        def end(number: int, frame: FrameType | None) -> NoReturn:
            # mlx.launch ends a rank when another one has ended: then that is what to say.
            raise leader.lost or KeyboardInterrupt

        signal.signal(signal.SIGTERM, end)
    return machines.leader


def leave(code: int) -> None:
    """Let rank 1 end with this exit code, if this is rank 0."""
    machines = group()
    if machines is None or machines.rank or machines.problem is not None:
        return
    if machines.sought and machines.leader is None:  # it did not come, or was sent away
        return
    from blendin_mlx.distributed.channel import Kind
    from blendin_mlx.errors import MachineError

    with suppress(MachineError):  # it has ended, too
        leader = _lead(machines, _LEAVING_S)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is said: the exit code is this one
        if leader.lost is None:
            leader.channel.send(Kind.BYE, first=code)


def is_follower() -> bool:
    """Return whether this process works for rank 0."""
    machines = group()
    return machines is not None and machines.rank > 0


def follow() -> int:
    """Run the guide for rank 0 until it leaves; return its exit code. Nothing is printed.

    An error goes to rank 0, which prints it.

    Raises:
        MachineError: rank 0 ended without a word, or hangs.
    """
    machines = group()
    assert machines is not None
    if machines.problem is not None:
        return USAGE  # rank 0 says so
    from blendin_mlx.distributed.channel import Kind
    from blendin_mlx.distributed.meeting import join
    from blendin_mlx.errors import MachineError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what Ctrl-C means is decided by rank 0
    channel = join(machines.address, machines.patience_s)
    try:
        return _serve(channel)
    except MachineError:
        if (code := channel.farewell()) is None:
            raise
        return code
    except Exception as error:
        message, _ = explain(error)
        channel.send(Kind.ERROR, payload=message.encode())
        return FAILURE


def _serve(channel: Channel) -> int:
    from blendin_mlx.distributed.channel import Kind

    if (message := channel.receive()).kind is Kind.BYE:
        return message.first
    from blendin_mlx.distributed.follower import Follower
    from blendin_models.two_machines import load_guides

    return Follower(channel, load_guides(message, channel)).serve()
