"""Conversations as strings: the harness hands on one text, and two models read two forms of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

Messages = list[dict[str, str]]
MARK = "blendin conversation "  # then the messages as JSON


class Conversation(NamedTuple):
    """A conversation, and how its answer begins.

    Attributes:
        messages: the last one is the user's.
        begun: the beginning of the answer, maybe empty.
    """

    messages: Messages
    begun: str


def as_context(history: Sequence[dict[str, str]]) -> str:
    """Return messages as a context for the harness, which may append to it.

    Example:
        >>> as_context([{"role": "user", "content": "Hi"}])
        'blendin conversation [{"role": "user", "content": "Hi"}]'
    """
    return MARK + json.dumps(list(history), ensure_ascii=False)


def conversation_of(context: str) -> Conversation | None:
    """Return the conversation of a context, None if it is plain text.

    A last message from the assistant, and what follows the messages, begin the answer.
    """
    if not context.startswith(MARK):
        return None
    messages, end = json.JSONDecoder().raw_decode(context, len(MARK))
    begun = context[end:]
    if messages and messages[-1]["role"] == "assistant":
        begun = messages.pop()["content"] + begun
    return Conversation(messages, begun)
