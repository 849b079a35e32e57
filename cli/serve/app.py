"""The routes: what is asked of the server, and how it is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

from .answering import Answers, Form, Reply, as_bytes
from .api import AnswerRequest, RequestReader
from .connection import HttpReply, HttpRequest, Limits
from .decoding import Decoding
from .engine import Engine, Work
from .errors import ApiError, Headers, as_api_error, unavailable
from .guard import Guard
from .naming import ModelNames
from .parts import Start
from .replies import ChatChoice, ChoiceWriter, CompletionChoice, Head

JSON = [("Content-Type", "application/json")]
EVENTS = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Accel-Buffering", "no")]
PAGE = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
]
ALWAYS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]
MODEL = "/v1/models/"
WITH_BODY = "POST"

Log = Callable[[str], None]
Route = Callable[[HttpRequest], Awaitable[HttpReply]]


@dataclass(frozen=True)
class Service:
    """What is there once the models are loaded."""

    reader: RequestReader
    decoding: Decoding
    names: ModelNames


class Routes:
    """Answers requests; an :class:`.connection.App`.

    Args:
        engine: runs what needs the models.
        guard: says who may ask.
        limits: how long a stream may be silent.
        log: told one line for each request.
        log_bodies: with what was asked.

    Attributes:
        service: None until the models are loaded.
    """

    def __init__(
        self, engine: Engine, guard: Guard, limits: Limits, log: Log, log_bodies: bool = False
    ) -> None:
        self.service: Service | None = None
        self._engine, self._guard, self._limits = engine, guard, limits
        self._log, self._log_bodies = log, log_bodies
        self._routes: dict[str, tuple[str, Route]] = {
            "/": ("GET", self._page),
            "/health": ("GET", self._health),
            "/v1/models": ("GET", self._models),
            MODEL: ("GET", self._model),
            "/v1/chat/completions": (WITH_BODY, self._chat),
            "/v1/completions": (WITH_BODY, self._completion),
            "/tokenize": (WITH_BODY, self._tokenize),
            "/detokenize": (WITH_BODY, self._detokenize),
            "/tokenizer_info": ("GET", self._tokenizer_info),
        }

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Refuse a request by its head."""
        self._guard.check_source(headers)
        if method == "OPTIONS" and "origin" in headers:  # a browser asks whether a page may ask
            return
        self._guard.check_key(path, headers)
        allowed, _ = self._route(path)
        if method != allowed and (method, allowed) != ("HEAD", "GET"):
            message = f"{path[:80]} takes {allowed}, not {method[:20]}"
            raise ApiError(405, message, headers=[("Allow", allowed)])
        if allowed == WITH_BODY:
            _check_body(headers)

    def _route(self, path: str) -> tuple[str, Route]:
        known = MODEL if path.startswith(MODEL) else path
        if known not in self._routes:
            raise ApiError(404, f"there is nothing at {path[:80]}")
        return self._routes[known]

    async def reply(self, request: HttpRequest) -> HttpReply:
        """Answer a request."""
        if request.method == "OPTIONS":
            return HttpReply(204, headers=[*ALWAYS, *self._shared(request)])
        try:
            _, route = self._route(request.path)
            reply = await route(request)
        except Exception as error:
            reply = self.refusal(error)
        headers = [*reply.headers, *self._shared(request)]
        return HttpReply(reply.status, reply.body, headers, reply.note, reply.done)

    def refusal(self, error: Exception) -> HttpReply:
        """Return the reply that an error is."""
        told = as_api_error(error)
        headers = [*ALWAYS, *JSON, *told.headers]
        return HttpReply(told.status, as_bytes(told.as_json()), headers, lambda: told.message)

    def log(self, request: HttpRequest | None, status: int, note: str) -> None:
        """Note a reply that was sent, or broken off."""
        asked = f"{request.method} {request.path[:80]}" if request else "a bad request"
        self._log(", ".join(filter(None, (f"{asked} {status or ''}".rstrip(), note))))
        if self._log_bodies and request and request.body:
            self._log(request.body.decode(errors="replace"))

    def _shared(self, request: HttpRequest) -> Headers:
        """Return the headers that let a page from elsewhere read the reply, if it may."""
        origin = request.headers.get("origin")
        if origin is None:
            return []
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Headers", "authorization, content-type"),
            ("Access-Control-Allow-Methods", "GET, POST"),
            ("Vary", "Origin"),
        ]

    def _loaded(self) -> Service:
        if self.service is None:
            raise unavailable("the models are still being loaded")
        return self.service

    async def _page(self, request: HttpRequest) -> HttpReply:
        page = (files(__package__) / "page.html").read_bytes()
        return HttpReply(200, page, [*ALWAYS, *PAGE])

    async def _health(self, request: HttpRequest) -> HttpReply:
        state = self._engine.state
        return _as_json({"status": state}, 200 if state == "ready" else 503)

    async def _models(self, request: HttpRequest) -> HttpReply:
        return _as_json(self._loaded().names.listing())

    async def _model(self, request: HttpRequest) -> HttpReply:
        return _as_json(self._loaded().names.entry(unquote(request.path.removeprefix(MODEL))))

    async def _chat(self, request: HttpRequest) -> HttpReply:
        service = self._loaded()
        asked = service.reader.chat(parsed(request))
        works = [partial(service.decoding.chat, asked, n) for n in range(asked.n)]

        def choice(index: int, start: Start) -> ChoiceWriter:
            return ChatChoice(index, asked.logprobs is not None, start.thinking)

        form = Form(Head("chat.completion", asked.model), choice, 1, asked.include_usage)
        return await self._answer(asked, works, form)

    async def _completion(self, request: HttpRequest) -> HttpReply:
        service = self._loaded()
        asked = service.reader.completion(parsed(request))
        count = len(asked.prompts) * asked.n
        works = [partial(service.decoding.completion, asked, n) for n in range(count)]

        def choice(index: int, start: Start) -> ChoiceWriter:
            return CompletionChoice(index, asked.logprobs is not None)

        head = Head("text_completion", asked.model)
        form = Form(head, choice, len(asked.prompts), asked.include_usage)
        return await self._answer(asked, works, form)

    async def _tokenize(self, request: HttpRequest) -> HttpReply:
        service = self._loaded()
        asked = service.reader.tokenize(parsed(request))
        return await self._one(partial(service.decoding.tokenize, asked))

    async def _detokenize(self, request: HttpRequest) -> HttpReply:
        service = self._loaded()
        tokens = service.reader.detokenize(parsed(request))
        return await self._one(partial(service.decoding.detokenize, tokens))

    async def _tokenizer_info(self, request: HttpRequest) -> HttpReply:
        return await self._one(self._loaded().decoding.tokenizer_info)

    async def _one(self, work: Work) -> HttpReply:
        """Answer with the one result of work that takes no time."""
        answers = Answers(self._engine, [work], quick=True)
        try:
            values = [value async for _, value in answers.all()]
        finally:
            answers.cancel()
        return _as_json(values[0])

    async def _answer(
        self, asked: AnswerRequest, works: list[partial[Iterator[Any]]], form: Form
    ) -> HttpReply:
        answers = Answers(self._engine, works)
        reply = Reply(answers, form)
        try:
            if not asked.stream:
                return _as_json(await reply.whole(), note=reply.note)
            await answers.begin(self._limits.pause_s)
            stream = reply.stream(self._limits.pause_s)
            return HttpReply(200, stream, [*ALWAYS, *EVENTS], reply.note, answers.cancel)
        except BaseException:
            answers.cancel()
            raise


def parsed(request: HttpRequest) -> Any:
    """Return what the body of a request says.

    Raises:
        ApiError: it is not JSON.
    """
    from blendin_mlx.input_text import decoded, parsed_json

    try:
        return parsed_json(decoded(request.body, "the request"))
    except ValueError as error:
        raise ApiError(400, f"the request is not JSON: {error}") from None


def _check_body(headers: Mapping[str, str]) -> None:
    """Refuse what is not JSON by its own account: forms of any page can send everything else."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "send the request as JSON: Content-Type: application/json")
    if "content-length" not in headers and "transfer-encoding" not in headers:
        raise ApiError(411, "the length of the request is missing: send Content-Length")


def _as_json(value: Any, status: int = 200, note: Callable[[], str] = lambda: "") -> HttpReply:
    return HttpReply(status, as_bytes(value), [*ALWAYS, *JSON], note)
