"""A server whose answers are scripted: the real routes, queue and sockets, and no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import click

from blendin_cli.options.groups import blend_options
from blendin_cli.options.settings import METHODS, Settings
from blendin_cli.serve.api import RequestReader
from blendin_cli.serve.app import Routes, Service
from blendin_cli.serve.connection import Limits
from blendin_cli.serve.engine import Engine
from blendin_cli.serve.guard import Guard
from blendin_cli.serve.naming import ModelNames
from blendin_cli.serve.parts import Part, ShownToken, Start, TokenProb
from serving import DEADLINE_S, Address, running, served

QUEUE = 8


@click.command()
@blend_options
def _probe(settings: Settings) -> Settings:
    """Return the settings of a command line."""
    return settings


def reader(*options: str, name: str = "P", most: int = QUEUE) -> RequestReader:
    """What reads requests where the command was given these options."""
    ctx = _probe.make_context("serve", list(options))
    with ctx:
        settings: Settings = ctx.invoke(_probe, **ctx.params)
    methods = [method for method in METHODS if method != "proxy-tuning"]
    return RequestReader(ctx, settings, ModelNames(name, methods, settings.method), most)


def words(*texts: str, finish: str = "stop") -> list[Part]:
    """An answer of a few words, a part each; the guide decided the first of them."""
    parts = [_word(text, n) for n, text in enumerate(texts)]
    blend = {"method": "blendin", "interventions": 1, "rate": 1 / max(1, len(texts))}
    last = Part("", (), (), finish, (7, len(texts)), {**blend, "mean_alpha": 0.5})
    return [*parts, last]


def _word(text: str, index: int) -> Part:
    token = TokenProb(text.encode(), -0.5)
    source, alpha = ("base", None) if index else ("blend", 0.5)
    decision: dict[str, Any] = {"text": text, "source": source, "alpha": alpha}
    return Part(text, (ShownToken(token, (token,)),), (decision,))


@dataclass
class Script:
    """What the decoding thread does, in place of a :class:`.decoding.Decoding`.

    Attributes:
        parts: every answer; an exception among them is raised.
        gate: waited for before each part but the first, if there is one.
        steps: how many parts were made.
        asked: the requests that were begun.
        stopped: set once work was told to stop.
    """

    parts: Sequence[Part | BaseException] = field(default_factory=lambda: words("one", " two"))
    gate: threading.Semaphore | None = None
    thinking: bool = False
    steps: int = 0
    asked: list[Any] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def chat(self, request: Any, index: int, should_stop: Callable[[], bool]) -> Iterator[Any]:
        self.asked.append((request, index))
        yield Start(self.thinking)
        for n, part in enumerate(self.parts):
            if n and self.gate is not None:
                assert self.gate.acquire(timeout=DEADLINE_S)
            if should_stop():
                self.stopped.set()
                return
            self.steps += 1
            if isinstance(part, BaseException):
                raise part
            yield part

    completion = chat


@dataclass(frozen=True)
class Scripted:
    """A scripted server that runs."""

    address: Address
    engine: Engine
    routes: Routes
    script: Script
    lines: list[str]


@contextmanager
def scripted_server(
    script: Script | None = None,
    *,
    guard: Guard | None = None,
    queue: int = QUEUE,
    loaded: bool = True,
    log_bodies: bool = False,
    options: Sequence[str] = (),
    **limits: Any,
) -> Iterator[Scripted]:
    """Serve a script; ``limits`` are those of :class:`.connection.Limits`."""
    script = script or Script()
    engine, lines = Engine(queue), list[str]()
    chosen = replace(Limits(), **limits)
    routes = Routes(engine, guard or Guard(None), chosen, lines.append, log_bodies)
    read = reader(*options, most=queue)
    if loaded:
        routes.service = Service(read, script, read._names)  # type: ignore[arg-type]
    with served(routes, chosen, engine.stop) as address, running(engine.run, engine.stop):
        yield Scripted(address, engine, routes, script, lines)
