"""``blendin serve``: load a pair once, and answer other programs until told to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from ..errors import FAILURE, INTERRUPTED
from ..options.groups import batch_option, blend_options
from ..options.settings import DEFAULT_PAIR, METHODS, Settings
from ..options.types import Whole
from ..session import Session
from ..terminal.output import say
from ..terminal.quiet import quiet_option

if TYPE_CHECKING:
    from .app import Routes
    from .decoding import Decoding
    from .engine import Engine
    from .guard import Guard

MB = 2**20


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes any that is free.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    hide_input=True,
    help="Answer only who sends this key; needed where other machines reach the host. Better "
    "set as BLENDIN_SERVE_API_KEY: a command line can be read by others.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="A name that the server may be asked under, besides localhost and addresses; may be "
    "repeated.",
)
@click.option(
    "--allow-origin",
    multiple=True,
    metavar="URL",
    help="A web page that may ask, as https://chat.example; may be repeated.",
)
@click.option(
    "--queue",
    type=Whole(1, 4096),
    default=64,
    show_default=True,
    help="Most answers that wait or are written at once; more are refused with 429.",
)
@batch_option("auto")
@click.option(
    "--cache-memory",
    type=Whole(0, 2**20),
    default=1024,
    show_default=True,
    metavar="MB",
    help="What may be kept of earlier requests, so that it need not be read again.",
)
@click.option("--log-prompts", is_flag=True, help="Log what is asked, not only that.")
@blend_options
@quiet_option
@click.pass_context
def serve(
    ctx: click.Context,
    host: str,
    port: int,
    api_key: str | None,
    allow_host: tuple[str, ...],
    allow_origin: tuple[str, ...],
    queue: int,
    batch: int | None,
    cache_memory: int,
    log_prompts: bool,
    settings: Settings,
    quiet: bool,
) -> int:
    """Serve a pair over HTTP, with the interface of OpenAI, and a chat page for a browser.

    The other options say what holds where a request says nothing. Only this machine can reach the
    server unless --host and --api-key are given.

    \b
    Examples:
      blendin serve --pair demo
      blendin serve --pair demo --port 9000 --method nudging
      curl -s http://127.0.0.1:8080/v1/models
      curl -s http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}'
    """
    from .app import Routes
    from .connection import Limits
    from .engine import Engine
    from .guard import Guard
    from .server import HttpServer, address_of, bind

    with bind(host, port) as listening:
        guard = Guard(api_key, [host.lower(), *map(str.lower, allow_host)], allow_origin)
        _check_reach(listening.getsockname()[0], guard)
        limits, engine, url = Limits(), Engine(queue), address_of(listening)
        routes = Routes(engine, guard, limits, lambda line: say(line, quiet), log_prompts)
        with HttpServer(listening, routes, limits, engine.stop) as server:
            say(f"{url} listens; loading the models …", quiet)
            session, decoding = _load(settings, quiet, cache_memory * MB, batch, engine)
            name = _offer(ctx, session, decoding, routes, engine)
            say(f"{name} is ready at {url}; Ctrl-C ends", quiet)
            with _until_signal(engine) as ending:
                engine.run()
    if server.failed:
        raise click.ClickException("the HTTP server ended by itself; see above")
    return ending.code


def _check_reach(address: str, guard: Guard) -> None:
    """Refuse to be reached by other machines without a key."""
    import ipaddress

    if guard.api_key == "":
        raise click.UsageError("--api-key is empty")
    if guard.api_key is None and not ipaddress.ip_address(address).is_loopback:
        raise click.UsageError(
            f"other machines can reach {address}: pass --api-key too, or leave out --host"
        )


def _load(
    settings: Settings, quiet: bool, cache_bytes: int, batch: int | None, engine: Engine
) -> tuple[Session, Decoding]:
    from .decoding import Decoding

    session = Session(settings, quiet)
    session.keep_beginning()
    return session, Decoding(session, cache_bytes, batch, engine.is_alone)


def _offer(
    ctx: click.Context, session: Session, decoding: Decoding, routes: Routes, engine: Engine
) -> str:
    """Let requests for the loaded pair in; return its name."""
    from .api import RequestReader
    from .app import Service
    from .naming import ModelNames

    pair, settings = session.pair, session.settings
    name = settings.pair or f"{pair.base.name}+{pair.guide_name}"
    if not settings.names_models:
        name = settings.pair or DEFAULT_PAIR
    methods = [one for one in METHODS if one != "proxy-tuning" or pair.reference is not None]
    names = ModelNames(name, methods, settings.method)
    reader = RequestReader(ctx, settings, names, engine.capacity)
    engine.rows, engine.recover = decoding.size, decoding.recover
    routes.service = Service(reader, decoding, names)
    return name


class _Ending:
    """The first signal asks for an end, the second Ctrl-C interrupts."""

    def __init__(self, engine: Engine) -> None:
        self.code = FAILURE  # unless it was asked for
        self._engine = engine

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._engine.is_stopping() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = INTERRUPTED if number == signal.SIGINT else 0
        self._engine.stop()


@contextmanager
def _until_signal(engine: Engine) -> Iterator[_Ending]:
    """Context manager: Ctrl-C and SIGTERM let the engine come to its end."""
    ending = _Ending(engine)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, ending)
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
