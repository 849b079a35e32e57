"""A guide on another machine, with and without reading ahead while the base computes.

Tiny networks whose passes last as long as they are told to, by sleeping: so two threads of one
process, joined by TCP over loopback, are two machines that disturb each other no more than two
machines do. What the networks say follows a script. Every round runs every cell both ways, one
after the other; medians over the rounds.

    python benchmarks/reading_ahead.py --rounds 3 --tokens 60
"""

from __future__ import annotations

import argparse
import socket
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any
from unittest.mock import patch

from shapes import Script, Scripted, prompt_of, shape_true_pair, words_of

from blendin_mlx.backend.mlx import mx
from blendin_mlx.distributed.channel import Channel, Kind
from blendin_mlx.distributed.follower import Follower
from blendin_mlx.distributed.leader import Leader
from blendin_mlx.distributed.remote_context import RemoteModel
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_models import load_pair
from timing import machine

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64,
         "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
BASE_S = 0.1  # a pass of the base
GUIDE = (0.5, 1.0, 2.0, 4.0)  # a pass of the guide, in passes of the base
ASKED = (0.2, 0.5, 1.0)  # the share of tokens at which the guide is asked
PROMPT_TOKENS = 32
PATIENCE_S = 60.0


class Slow:
    """A network whose passes last ``seconds`` longer."""

    def __init__(self, network: Scripted) -> None:
        self.network = network
        self.seconds = 0.0

    def __call__(self, ids: Any, cache: Any = None) -> Any:
        if cache is not None:  # a pass without one asks for shapes alone
            time.sleep(self.seconds)
        return self.network(ids, cache=cache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


def connected() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    for end in (one, other):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


@contextmanager
def apart(pair: Pair) -> Iterator[Pair]:
    """The pair with its guide behind a connection."""
    here, there = connected()
    follower = Follower(Channel(there, "rank 0", PATIENCE_S), {"aligned": pair.aligned})
    thread = threading.Thread(target=follower.serve)
    thread.start()
    leader = Leader(Channel(here, "rank 1", PATIENCE_S))
    place = RemoteModel(leader, "aligned", leader.wait_until_loaded()["aligned"])
    guide = replace(pair.aligned, network=None, elsewhere=place)
    guide.logit_size, guide.rows = pair.aligned.logit_size, pair.aligned.rows
    try:
        yield Pair(pair.base, guide)
    finally:
        leader.channel.send(Kind.BYE)
        thread.join()


def direct(script: Script, pair: Pair, words: Any) -> None:
    """Tell both networks what to say; arrays that two threads use must be computed before."""
    script.direct(pair, words)
    for model in (pair.base, pair.aligned):
        mx.eval(model.network.tokens, model.network.confidence)


def token_s(pair: Pair, asked: float, words: Any, tokens: int) -> float:
    """Seconds for a token; where the guide is always asked, by a method that always does."""
    with apart(pair) as remote:
        responses = stream_generate(
            remote,
            prompt_of(PROMPT_TOKENS, words),
            method="ensemble" if asked == 1 else "blendin",
            max_tokens=tokens + 1,
            stop_policy="blend",
        )
        next(responses)  # the first step reads prompts
        started = time.perf_counter()
        count = sum(len(response.pieces) for response in responses)
        return (time.perf_counter() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=60)
    arguments = parser.parse_args()
    print(f"{arguments.rounds} rounds, {arguments.tokens} tokens, medians; {machine()}\n")
    pair = shape_true_pair(load_pair("demo").aligned.tokenizer, SHAPE, SHAPE)
    words = words_of(pair.base)
    base, aligned = Slow(pair.base.network), Slow(pair.aligned.network)
    base.seconds = BASE_S
    slow = Pair(replace(pair.base, network=base), replace(pair.aligned, network=aligned))
    seconds: dict[Any, list[float]] = defaultdict(list)
    for _, (asked, guide) in product(range(arguments.rounds), product(ASKED, GUIDE)):
        direct(Script(0.7, asked), pair, words)
        aligned.seconds = guide * BASE_S
        cell = asked, guide
        seconds[cell, "ahead"].append(token_s(slow, asked, words, arguments.tokens))
        with patch.object(Leader, "expect"):
            seconds[cell, "after"].append(token_s(slow, asked, words, arguments.tokens))
    report(seconds)


def report(seconds: dict[Any, list[float]]) -> None:
    """A line for each cell, beside what the formulas say without a network."""
    print(f"A token, in passes of the base ({1000 * BASE_S:.0f} ms); in brackets the formulas\n")
    print("`t_b + r t_g` and `t_b + r max(0, t_g − t_b)`.\n")
    print("| `r` | `t_g` | one after the other | reading ahead | time saved |")
    print("|---|---|---|---|---|")
    for asked in ASKED:
        for guide in GUIDE:
            after, ahead = (seconds[(asked, guide), name] for name in ("after", "ahead"))
            saved = statistics.median(1 - a / b for a, b in zip(ahead, after, strict=True))
            one, two = (statistics.median(found) / BASE_S for found in (after, ahead))
            formulas = 1 + asked * guide, 1 + asked * max(0, guide - 1)
            print(
                f"| {asked:g} | {guide:g} | {one:.2f} ({formulas[0]:.2f}) "
                f"| {two:.2f} ({formulas[1]:.2f}) | {saved:.0%} |"
            )


if __name__ == "__main__":
    main()
