"""Started by ``mlx.launch``: rank 0 is the command, for which the others run models.

Rank 1 runs the guide, or all ranks run a part of the base each. Where the command was not started
so, nothing of this is imported.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from .errors import FAILURE, USAGE, explain
from .options.settings import Settings

if TYPE_CHECKING:
    from blendin_mlx.distributed.channel import Channel, Connection, Frame
    from blendin_mlx.distributed.leader import Leader
    from blendin_mlx.model import Pair
    from blendin_models.pair import PairSpec
    from blendin_models.progress import Progress

COMMANDS = ("generate", "chat", "run")
TIMEOUT = "BLENDIN_MACHINES_TIMEOUT"
_PATIENCE_S = 60.0
_LOST_S = 1.0  # how long it may take to hear that a machine has ended
_LEAVING_S = 10.0  # how long a command that needs no guide waits for rank 1, to send it home


@dataclass
class Group:
    """The machines that ``mlx.launch`` started this command on.

    Attributes:
        rank: which of them this is.
        address: where rank 0 listens.
        patience_s: how many seconds without progress end all.
        problem: why nothing can run on them, in a line; None if it can.
        size: how many there are.
        sought: whether rank 0 has looked for the others.
        channels: what rank 0 has to the others, once they have met.
        leader: what rank 0 asks them with, once it does.
        split: whether this one runs a part of the base.
    """

    rank: int
    address: tuple[str, int] = ("", 0)
    patience_s: float = _PATIENCE_S
    problem: str | None = None
    size: int = 2
    sought: bool = False
    channels: list[Channel] | None = None
    leader: Leader | None = None
    split: bool = False


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
        found = Group(int(rank), (host, int(port)), size=len(hosts))
    except (KeyError, OSError, ValueError, TypeError, IndexError, AttributeError):
        unknown = "the hosts of mlx.launch are not known; start with mlx.launch --backend ring"
        return Group(0 if rank == "0" else 1, problem=unknown)
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
            f"blendin {name} runs on one machine; on more do {', '.join(COMMANDS)}"
        )


def check_settings(settings: Settings) -> None:
    """Refuse options that do not work on as many machines as there are.

    Raises:
        click.UsageError: one does not.
    """
    machines = group()
    if machines is None and settings.shard:
        raise click.UsageError(
            "--shard splits the base over machines; start with mlx.launch -n 2 -- blendin …"
        )
    if machines is None:
        return
    if settings.prompt_cache is not None:
        raise click.UsageError("--prompt-cache works on one machine only")
    if machines.size > 2 and not settings.shard:
        raise click.UsageError(
            f"a pair runs on two machines, not on {machines.size}; use mlx.launch -n 2, or split "
            "the base with --shard"
        )


def load(spec: PairSpec, report: Progress, split: bool = False) -> Pair:
    """Load a pair: all of it, or what belongs on this one of several machines.

    Args:
        spec: the pair.
        report: told how far it is.
        split: whether the base is split over all machines.
    """
    from blendin_models.pair import load_spec

    if (machines := group()) is None:
        return load_spec(spec, report)
    channels = _meet(machines, machines.patience_s)
    if not split:
        from blendin_models.two_machines import load_base

        return load_base(spec, _lead(machines, channels[0]), report)
    from blendin_mlx.distributed.split_base import Parts, join_ring
    from blendin_models.split_base import load_split

    _begin_split(machines)
    parts = Parts(channels, machines.patience_s)
    return load_split(spec, parts, _lead(machines, parts), join_ring, report)


def _meet(machines: Group, patience_s: float) -> list[Channel]:
    """Meet the other ranks, unless that was done; return the channels to them."""
    if machines.channels is None:
        from blendin_mlx.distributed.meeting import receive_others

        machines.sought = True
        machines.channels = receive_others(machines.address, patience_s, machines.size - 1)
    return machines.channels


def _lead(machines: Group, connection: Connection) -> Leader:
    """Return what rank 0 asks the others with."""
    from blendin_mlx.distributed.leader import Leader

    machines.leader = leader = Leader(connection)

    def end(number: int, frame: FrameType | None) -> NoReturn:
        # mlx.launch ends a rank when another one has ended: then that is what to say.
        raise leader.lost(_LOST_S) or KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    return leader


def _begin_split(machines: Group) -> None:
    """Keep what libraries write to stderr by themselves from the user.

    MLX's ring says ten times that it has lost a machine, which is said once here.
    """
    machines.split = True
    sys.stderr.flush()
    own = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    sys.stderr = os.fdopen(own, "w", 1, sys.stderr.encoding, sys.stderr.errors)


def leave(code: int) -> None:
    """Let the other ranks end with this exit code, if this is rank 0; end at once if it must."""
    machines = group()
    if machines is None or machines.problem is not None:
        return
    if not machines.rank:
        _dismiss(machines, code)
    if machines.split:  # a thread may wait for a machine that is lost, and never end
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _dismiss(machines: Group, code: int) -> None:
    """Let the other ranks end with this exit code."""
    if machines.sought and machines.channels is None:  # one did not come, or all were sent away
        return
    from blendin_mlx.distributed.channel import Kind
    from blendin_mlx.errors import MachineError

    with suppress(MachineError):
        channels = _meet(machines, _LEAVING_S)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is said: the exit code is this one
        for one in [machines.leader.channel] if machines.leader else channels:
            with suppress(MachineError):  # it has ended, too
                one.send(Kind.BYE, first=code)


def is_follower() -> bool:
    """Return whether this process works for rank 0."""
    machines = group()
    return machines is not None and machines.rank > 0


def follow() -> int:
    """Run a model for rank 0 until it leaves; return its exit code. Nothing is printed.

    An error goes to rank 0, which prints it.

    Raises:
        MachineError: rank 0 ended without a word, or hangs.
    """
    machines = group()
    assert machines is not None
    if machines.problem is not None:
        return USAGE  # rank 0 says so
    from blendin_mlx.distributed.meeting import join
    from blendin_mlx.errors import MachineError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what Ctrl-C means is decided by rank 0
    channel = join(machines.address, machines.patience_s, machines.rank)
    try:
        return _serve(machines, channel)
    except MachineError:
        if (code := channel.farewell()) is None and machines.rank == 1:  # one says so for all
            raise
        return FAILURE if code is None else code
    except Exception as error:
        _tell(channel, error)
        return FAILURE


def _tell(channel: Channel, error: Exception) -> None:
    """Let rank 0 say what went wrong here."""
    from blendin_mlx.distributed.channel import Kind

    message, _ = explain(error)
    channel.send(Kind.ERROR, payload=message.encode())


def _serve(machines: Group, channel: Channel) -> int:
    from blendin_mlx.distributed.channel import Kind

    if (message := channel.receive()).kind is Kind.BYE:
        return message.first
    if message.kind is Kind.LOAD and "split" in message.described:
        return _serve_part(machines, message, channel)
    from blendin_mlx.distributed.follower import Follower
    from blendin_models.two_machines import load_guides

    return Follower(channel, load_guides(message, channel)).serve()


def _serve_part(machines: Group, message: Frame, channel: Channel) -> int:
    from blendin_mlx.distributed.channel import Kind
    from blendin_mlx.distributed.split_base import join_ring, serve_part
    from blendin_mlx.errors import MachineError
    from blendin_models.loading.network_part import Place
    from blendin_models.split_base import check_part, load_part

    _begin_split(machines)
    located, report = check_part(message, channel, Place(machines.rank, machines.size))
    channel.describe(Kind.CHECKED, None)
    if (message := channel.receive()).kind is Kind.BYE:
        return message.first
    try:
        ring = join_ring(channel)
    except MachineError as error:  # rank 0 says so, as soon as it can
        _tell(channel, error)
        return channel.receive(waits=False).first
    model = load_part(located, report, channel, ring)
    return serve_part(channel, model, partial(_tell, channel))
