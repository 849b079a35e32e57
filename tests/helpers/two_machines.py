"""Two machines: two ends of a socket in one process, or two processes as mlx.launch starts them."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from blendin_mlx.distributed.channel import Channel, Kind
from blendin_mlx.distributed.follower import Follower
from blendin_mlx.distributed.leader import Leader
from blendin_mlx.distributed.remote_context import RemoteModel
from blendin_mlx.errors import MachineError
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.roles import Role
from prepared_python import program
from terminals import DEADLINE_S, command

Ended = subprocess.CompletedProcess[bytes]


@contextmanager
def channels(patience_s: float = DEADLINE_S) -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a connection."""
    one, other = socket.socketpair()
    ends = Channel(one, "rank 1", patience_s), Channel(other, "rank 0", patience_s)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


@contextmanager
def served(serve: Callable[[Channel], object]) -> Iterator[Channel]:
    """Rank 0's end of a connection whose other end is served on another thread."""
    with channels() as (here, there):

        def run() -> None:
            with closing(there):  # whatever happens, the other end need not wait
                serve(there)

        follower = threading.Thread(target=run)
        follower.start()
        try:
            yield here
        finally:
            with suppress(MachineError):
                here.send(Kind.BYE)
            follower.join(DEADLINE_S)
            assert not follower.is_alive()


@contextmanager
def followed(serve: Callable[[Channel], object]) -> Iterator[Leader]:
    """Rank 0's side of a connection whose other side runs on another thread."""
    with served(serve) as channel:
        yield Leader(channel)


@contextmanager
def guided_from_afar(pair: Pair) -> Iterator[Pair]:
    """A pair whose guide, and its twin, run behind a socket."""
    guides: dict[Role, LanguageModel] = {r: m for r, m in pair.models().items() if r != "base"}
    with followed(lambda there: Follower(there, guides).serve()) as leader:
        lengths = leader.wait_until_loaded()
        remote: dict[str, Any] = {}
        for role, model in guides.items():
            place = RemoteModel(leader, role, lengths[role])
            remote[role] = replace(model, network=None, elsewhere=place)
            remote[role].logit_size, remote[role].rows = model.logit_size, model.rows
        yield replace(pair, **remote)


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody who asks for any."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


def launched(*arguments: object, code: str = "", fresh: bool = False) -> Ended:
    """Run ``mlx.launch -n 2 -- blendin …`` to its end.

    Args:
        arguments: of the command.
        code: Python that rank 1 runs before.
        fresh: the ranks are no forks, but import all by themselves.
    """
    launch = "from mlx._distributed_utils.launch import main; main()"
    own = f"import os\nif os.environ['MLX_RANK'] == '1':\n    exec({code!r})"
    python, *blendin = command([str(argument) for argument in arguments], own)
    line = [sys.executable, "-c", launch, "-n", "2", "-p", str(free_port()), "--"]
    waiting, typing = os.pipe()  # nothing is typed; at the end of its input mlx.launch spins
    with open(waiting, "rb") as terminal, open(typing, "wb"), program("python") as forking:
        return subprocess.run(
            [*line, python if fresh else forking, *blendin],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "BLENDIN_GENERATE_DRAFT": "off"},
            stdin=terminal,
            capture_output=True,
            timeout=DEADLINE_S,
        )
