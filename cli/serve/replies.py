"""Answers in OpenAI's form: whole objects, and the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from blendin_mlx.chat_template.reasoning import CLOSING, OPENING, ReasoningSplitter

from .parts import Part, ShownToken, TokenProb

Json = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """What all objects of a reply begin with.

    Args:
        kind: ``chat.completion`` or ``text_completion``.
        model: the model's id, as it was asked for.
    """

    kind: str
    model: str
    id: str = field(default_factory=lambda: f"blendin-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def object(self, choices: Sequence[Json], usage: Json | None = None) -> Json:
        """Return the whole reply."""
        return {**self._fields(self.kind), "choices": list(choices), "usage": usage}

    def chunk(self, choices: Sequence[Json]) -> Json:
        """Return a chunk of a streamed reply."""
        kind = f"{self.kind}.chunk" if self.kind == "chat.completion" else self.kind
        return {**self._fields(kind), "choices": list(choices)}

    def _fields(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class ChoiceWriter(Protocol):
    """Writes one choice of a reply, whole or in pieces."""

    def first(self) -> Json | None:
        """Return the choice that a stream begins with, if there is one."""

    def piece(self, part: Part) -> Json:
        """Return a part as a choice of a chunk."""

    def whole(self, part: Part) -> Json:
        """Return a complete answer as a choice."""


class ChatChoice:
    """A choice of a chat completion.

    Args:
        index: its number.
        logprobs: whether log-probabilities are wanted.
        thinking: the prompt has opened a block of thinking.
    """

    def __init__(self, index: int, logprobs: bool, thinking: bool) -> None:
        self._index, self._logprobs = index, logprobs
        self._thinking = Thinking(thinking)

    def first(self) -> Json:
        """Return the choice that says who speaks."""
        delta = {"role": "assistant", "content": ""}
        return {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(self, part: Part) -> Json:
        """Return a part as a choice of a chunk."""
        return {"index": self._index, "delta": self._split(part), **self._rest(part)}

    def whole(self, part: Part) -> Json:
        """Return a complete answer as a choice."""
        message = {"role": "assistant", "content": "", **self._split(part)}
        return {"index": self._index, "message": message, **self._rest(part)}

    def _split(self, part: Part) -> Json:
        """Return the text of a part, thinking apart; empty ones are left out."""
        reasoning, content = self._thinking.feed(part.text)
        if part.finish is not None:
            more = self._thinking.end()
            reasoning, content = reasoning + more[0], content + more[1]
        split = {"reasoning_content": reasoning, "content": content}
        return {name: text for name, text in split.items() if text}

    def _rest(self, part: Part) -> Json:
        logprobs = {"content": list(map(_chat_logprob, part.shown))} if self._logprobs else None
        return {"logprobs": logprobs, "finish_reason": part.finish, "blendin": _blend(part)}


class CompletionChoice:
    """A choice of a text completion.

    Args:
        index: its number.
        logprobs: whether log-probabilities are wanted.
        offset: characters that come before the text.
    """

    def __init__(self, index: int, logprobs: bool, offset: int = 0) -> None:
        self._index, self._logprobs, self._offset = index, logprobs, offset

    def first(self) -> None:
        """Return nothing: a stream begins with text."""
        return None

    def piece(self, part: Part) -> Json:
        """Return a part as a choice of a chunk."""
        logprobs = self._logprobs_of(part.shown) if self._logprobs else None
        return {
            "index": self._index,
            "text": part.text,
            "logprobs": logprobs,
            "finish_reason": part.finish,
            "blendin": _blend(part),
        }

    whole = piece

    def _logprobs_of(self, shown: Sequence[ShownToken]) -> Json:
        offsets = []
        for one in shown:
            offsets.append(self._offset)
            self._offset += len(one.token.written.decode(errors="ignore"))
        return {
            "tokens": [spelled(one.token.written) for one in shown],
            "token_logprobs": [one.token.logprob for one in shown],
            "top_logprobs": list(map(_ranked, shown)),
            "text_offset": offsets,
        }


class Thinking:
    """Divides the text of an answer into thinking and the rest, without the tags between them.

    Example:
        >>> Thinking().feed("<think>\\nHm.</think>\\n\\nYes.")
        ('\\nHm.', 'Yes.')
    """

    def __init__(self, opened: bool = False) -> None:
        self._splitter = ReasoningSplitter(opened)
        self._inside = opened
        self._thought = False  # white space after thinking belongs to neither

    def feed(self, text: str) -> tuple[str, str]:
        """Return the thinking and the rest that are settled by now."""
        return self._divided(self._splitter.feed(text))

    def end(self) -> tuple[str, str]:
        """Return what was held back because it could have begun a tag."""
        return self._divided(self._splitter.end())

    def _divided(self, parts: Sequence[tuple[str, bool]]) -> tuple[str, str]:
        reasoning = content = ""
        for text, thinking in parts:
            if thinking:
                reasoning += self._without_tags(text)
                self._thought = True
                continue
            shown = text.lstrip() if self._thought else text
            self._thought = self._thought and not shown
            content += shown
        return reasoning, content

    def _without_tags(self, text: str) -> str:
        """Return a part of the thinking without the tags that divide it; others are text."""
        kept = ""
        while text:
            text = text if self._inside else text.removeprefix(OPENING)
            before, closing, text = text.partition(CLOSING)
            kept += before
            self._inside = not closing
        return kept


def usage_of(lasts: Sequence[Part], prompts: int) -> Json:
    """Return the tokens of a whole reply.

    Args:
        lasts: the last part of every choice, those of one prompt together.
        prompts: how many prompts there were.
    """
    read = sum(part.usage[0] for part in lasts[:: max(1, len(lasts) // prompts)])
    written = sum(part.usage[1] for part in lasts)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def spelled(written: bytes) -> str:
    """Return a token as text, or its bytes where they are no text: ``bytes:\\\\xe2\\\\x98``."""
    try:
        return written.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)


def _ranked(shown: ShownToken) -> Json | None:
    if shown.token.logprob is None:
        return None
    return {spelled(one.written): one.logprob for one in shown.top}


def _chat_logprob(shown: ShownToken) -> Json:
    return {**_chat_token(shown.token), "top_logprobs": list(map(_chat_token, shown.top))}


def _chat_token(one: TokenProb) -> Json:
    text = one.written.decode(errors="replace")
    return {"token": text, "logprob": one.logprob, "bytes": list(one.written)}


def _blend(part: Part) -> Json:
    return {**part.blend, "tokens": list(part.decisions)}
