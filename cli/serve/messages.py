"""What is asked, as a request has it: messages of a conversation, or texts to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import refused
from .fields import Fields

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# What clients send back of an answer: thinking is left out of a conversation anyway.
WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "reasoning_content": (),
    "tool_calls": ([],),
    "annotations": ([],),
    "blendin": (),
}


def read_messages(value: Any) -> tuple[Mapping[str, str], ...]:
    """Return messages with ``role`` and ``content`` alone.

    Raises:
        ApiError: 400 naming what is wrong.

    Example:
        >>> read_messages([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
        ({'role': 'user', 'content': 'Hi'},)
    """
    if not isinstance(value, list) or not value:
        raise refused("messages", "must be a list of messages, at least one")
    return tuple(_message(one, f"messages[{n}]") for n, one in enumerate(value))


def _message(value: Any, path: str) -> Mapping[str, str]:
    fields = Fields(value, path)
    role = fields.text("role")
    if role not in ROLES:
        raise refused(fields.name("role"), f"must be one of {', '.join(ROLES)}")
    content = _content(fields.take("content"), fields.name("content"))
    fields.finish(WITHOUT_EFFECT)
    return {"role": ROLES[role], "content": content}


def _content(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise refused(path, "must be a string or a list of text parts")
    return "".join(_text_of(part, f"{path}[{n}]") for n, part in enumerate(value))


def _text_of(value: Any, path: str) -> str:
    fields = Fields(value, path)
    if fields.text("type") != "text":
        raise refused(fields.name("type"), "must be text: nothing else is read")
    text = fields.text("text")
    if text is None:
        raise refused(fields.name("text"), "must be a string")
    fields.finish()
    return text


def read_prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """Return the prompts of a completion: a string, ids, or a list of either.

    Raises:
        ApiError: 400, it is none of them.
    """
    several = [value] if _is_ids(value) or not isinstance(value, list) else value
    if not several or not all(isinstance(one, str) or _is_ids(one) for one in several):
        raise refused("prompt", "must be a string, a list of token ids, or a list of either")
    return tuple(one if isinstance(one, str) else tuple(one) for one in several)


def _is_ids(value: Any) -> bool:
    """Return True for a list of token ids, at least one."""
    return isinstance(value, list) and bool(value) and all(map(is_id, value))


def is_id(value: Any) -> bool:
    """Return True for what may be a token's id."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
