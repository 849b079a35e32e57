"""Answers that are shown when complete; meanwhile the status line shows their progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .session import Session
from .terminal.status import STATUS, in_tokens

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Response

    from .terminal.files import Target


def whole_answer(
    session: Session,
    messages: list[dict[str, str]],
    should_stop: Callable[[], bool],
    what: str = "answering",
    trace: Target | None = None,
) -> list[Response]:
    """Return all parts of the answer to a conversation.

    Args:
        session: the models and the settings.
        messages: the conversation.
        should_stop: called before each token.
        what: the operation, for the status line.
        trace: where to write a trace, if anywhere.
    """
    responses = []
    for response in session.answer(messages, should_stop, trace):
        responses.append(response)
        STATUS.show(what, response.statistics.completion_tokens, 0, in_tokens)
    STATUS.clear()
    return responses
