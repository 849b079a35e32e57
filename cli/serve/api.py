"""Requests in OpenAI's form, checked: what each field means, and what is not supported.

Fields become options of the command, by the rules that ``run`` has for a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import click

from ..options.method import make_method, with_method
from ..options.override import overridden
from ..options.settings import Settings
from ..options.types import BASE_TEMPLATES
from .errors import ApiError, refused
from .fields import Fields, is_number
from .messages import is_id, read_messages, read_prompts
from .naming import ModelNames
from .response_format import with_format

MOST_TOP = 20  # alternatives at a place, as with OpenAI
MOST_STOPS = 16
NUMBERS = {
    "temperature": "temp",
    "top_p": "top_p",
    "min_p": "min_p",
    "top_k": "top_k",
    "seed": "seed",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}
OWN_NUMBERS = (
    *("tau", "lambda", "beta", "dial", "guide_temp", "temper"),
    *("repetition_penalty", "repetition_context_size"),
)
OWN_WORDS = ("gate", "stop_policy", "projection")
# Values that ask for nothing; of those without any, every value does.
WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "user": (),
    "safety_identifier": (),
    "metadata": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
CHAT_WITHOUT_EFFECT = {
    **WITHOUT_EFFECT,
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
}
COMPLETION_WITHOUT_EFFECT = {**WITHOUT_EFFECT, "suffix": ("",), "best_of": (1,)}


@dataclass(frozen=True)
class AnswerRequest:
    """What every request for answers says.

    Attributes:
        model: the model's id.
        settings: all options, with those of the request.
        candidates: how many tokens of each distribution every decision names; 0 for none.
        n: answers to each prompt.
        logprobs: alternatives to each token; None for no log-probabilities at all.
    """

    model: str
    settings: Settings
    candidates: int
    n: int
    stream: bool
    include_usage: bool
    logprobs: int | None


@dataclass(frozen=True)
class ChatRequest(AnswerRequest):
    """A conversation to answer."""

    messages: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class CompletionRequest(AnswerRequest):
    """Texts to go on from, each a string or ids of the base.

    Attributes:
        echo: with the text itself.
        writes: False where nothing shall follow the text.
    """

    prompts: tuple[str | tuple[int, ...], ...]
    echo: bool
    writes: bool


@dataclass(frozen=True)
class TokenizeRequest:
    """A text to cut into tokens of the base.

    Attributes:
        whole: with what the tokenizer puts around a text.
        spelled: with each token as text.
    """

    prompt: str
    whole: bool
    spelled: bool


class RequestReader:
    """Reads requests for a pair.

    Args:
        ctx: the command's context, whose options say which values they take.
        settings: what holds where a request says nothing.
        names: the models.
        most: how many answers one request may ask for.
    """

    def __init__(
        self, ctx: click.Context, settings: Settings, names: ModelNames, most: int
    ) -> None:
        self._ctx, self._settings, self._names, self._most = ctx, settings, names, most

    def chat(self, body: Any) -> ChatRequest:
        """Return a request to answer a conversation.

        Raises:
            ApiError: 400 naming a field, or 404 for the model.
        """
        fields = Fields(body)
        messages = read_messages(fields.take("messages"))
        common = self._common(fields)
        settings = with_format(common["settings"], fields.fields("response_format"))
        if messages[0]["role"] == "system":
            settings = replace(settings, system=None)  # in place of the command's own
        wanted = fields.boolean("logprobs")
        top = fields.whole("top_logprobs", 0, MOST_TOP)
        if top and not wanted:
            raise refused("top_logprobs", "needs logprobs to be true")
        fields.finish(CHAT_WITHOUT_EFFECT)
        common |= {"settings": settings, "logprobs": top if wanted else None}
        return ChatRequest(**common, messages=messages)

    def completion(self, body: Any) -> CompletionRequest:
        """Return a request to go on from texts.

        Raises:
            ApiError: 400 naming a field, or 404 for the model.
        """
        fields = Fields(body)
        prompts = read_prompts(fields.take("prompt"))
        echo = fields.boolean("echo")
        top = fields.whole("logprobs", 0, MOST_TOP, default=-1)
        writes = "max_completion_tokens" in fields or not fields.take_if("max_tokens", 0)
        common = self._common(fields)
        fields.finish(COMPLETION_WITHOUT_EFFECT)
        if len(prompts) * common["n"] > self._most:
            raise refused("prompt", f"and n ask for more than {self._most} answers at once")
        common["logprobs"] = None if top < 0 else top
        return CompletionRequest(**common, prompts=prompts, echo=echo, writes=writes)

    def tokenize(self, body: Any) -> TokenizeRequest:
        """Return a request to cut a text into tokens.

        Raises:
            ApiError: 400 naming a field, or 404 for the model.
        """
        fields = Fields(body)
        self._names.method(fields.text("model") or self._names.name)
        prompt = fields.text("prompt")
        if prompt is None:
            raise refused("prompt", "must be a string")
        whole = fields.boolean("add_special_tokens", default=True)
        spelled = fields.boolean("return_token_strs")
        fields.finish()
        return TokenizeRequest(prompt, whole, spelled)

    def detokenize(self, body: Any) -> tuple[int, ...]:
        """Return the tokens of a request to write them as text.

        Raises:
            ApiError: 400 naming a field, or 404 for the model.
        """
        fields = Fields(body)
        self._names.method(fields.text("model") or self._names.name)
        tokens = fields.take("tokens")
        if not isinstance(tokens, list) or not all(map(is_id, tokens)):
            raise refused("tokens", "must be a list of token ids")
        fields.finish()
        return tuple(tokens)

    def _common(self, fields: Fields) -> dict[str, Any]:
        """Return the attributes that all requests for answers have."""
        model = fields.text("model") or self._names.name
        own = fields.fields("blendin")
        method = own.text("method")
        settings = self._with_model(model, method)
        settings = self._with_options(settings, fields, own)
        stream = fields.boolean("stream")
        options = fields.fields("stream_options")
        include_usage = options.boolean("include_usage")
        options.finish({"include_obfuscation": (False,)})
        if include_usage and not stream:
            raise refused("stream_options", "needs stream to be true")
        common = {
            "model": model,
            "stream": stream,
            "settings": settings,
            "candidates": own.whole("candidates", 0, MOST_TOP),
            "n": fields.whole("n", 1, self._most, default=1),
            "include_usage": include_usage,
        }
        own.finish()
        return common

    def _with_model(self, model: str, method: str | None) -> Settings:
        """Return the settings of a model id, which may stand for a method."""
        meant = self._names.method(model)
        if method is not None and model != self._names.name and method != meant:
            raise refused("blendin.method", f"is {method}, but the model {model} means {meant}")
        chosen = self._with(self._settings, "blendin.method", "method", method or meant)
        return with_method(self._settings, chosen.method)

    def _with_options(self, settings: Settings, fields: Fields, own: Fields) -> Settings:
        """Return the settings with the options that a request has."""
        if "max_tokens" in fields and "max_completion_tokens" in fields:
            raise refused("max_completion_tokens", "and max_tokens mean the same; leave one out")
        for field, option in NUMBERS.items():
            value = fields.number(field)
            if field == "top_p" and value == 0:  # off for the command, the likeliest for OpenAI
                raise refused(field, "must be above 0; temperature 0 takes the likeliest token")
            settings = self._with(settings, field, option, value)
        settings = self._with(settings, "stop", "stop", _stops(fields.take("stop")))
        for option in OWN_NUMBERS:
            settings = self._with(settings, f"blendin.{option}", option, own.number(option))
        for option in OWN_WORDS:
            settings = self._with(settings, f"blendin.{option}", option, own.text(option))
        settings = self._with(settings, "blendin.alpha", "alpha", _alpha(own.take("alpha")))
        template = own.text("base_template")
        if template not in (None, *BASE_TEMPLATES):  # a file of the server is nobody's business
            raise refused("blendin.base_template", f"must be one of {', '.join(BASE_TEMPLATES)}")
        settings = self._with(settings, "blendin.base_template", "base_template", template)
        thinking = own.boolean("thinking", settings.thinking)
        settings = replace(settings, thinking=thinking)
        _check_method(settings)
        return settings

    def _with(self, settings: Settings, field: str, option: str, value: Any) -> Settings:
        """Return the settings with an option of the command set from a field, if it is there."""
        if value is None:
            return settings
        try:
            with self._ctx.scope(cleanup=False):  # each thread has a current context of its own
                return overridden(settings, {option: value})
        except (ValueError, click.ClickException) as error:
            raise _about(field, error) from None


def _about(field: str, error: Exception) -> ApiError:
    message = error.message if isinstance(error, click.ClickException) else str(error)
    return ApiError(400, f"{field}: {message}", field)


def _check_method(settings: Settings) -> None:
    """Refuse options that the method does not have, or values out of its range."""
    try:
        make_method(settings)
    except (ValueError, click.ClickException) as error:
        raise _about("blendin", error) from None


def _stops(value: Any) -> list[str] | None:
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise refused("stop", "must be a string or a list of strings, none of them empty")
    if len(stops) > MOST_STOPS:
        raise refused("stop", f"may have {MOST_STOPS} strings")
    return stops


def _alpha(value: Any) -> Any:
    if value in (None, "auto") or is_number(value):
        return value
    raise refused("blendin.alpha", "must be auto or a number from 0 to 1")
