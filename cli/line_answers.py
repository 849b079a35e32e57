"""Lines of JSON answered by a session: one after the other, or several side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .options.override import overridden
from .options.settings import Settings
from .session import Session
from .side_by_side import SideBySide
from .terminal.interrupts import interruptible, unswallowed_interrupt
from .whole_answers import whole_answer

if TYPE_CHECKING:
    from blendin_mlx.batch.batch_generation import BatchPrompt

Numbered = tuple[int, dict[str, Any]]  # a line's number, and its result object


class LineAnswers:
    """The results of lines, in their order.

    Attributes:
        interrupted: Ctrl-C was pressed; results end with it.
    """

    def __init__(self, session: Session, settings: Settings) -> None:
        self.interrupted = False
        self._session = session
        self._settings = settings

    def one_by_one(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Numbered]:
        """Answer each line when the one before it has been answered."""
        for number, line in lines:
            result = _Result()
            with interruptible() as interrupt, result.noting():
                messages = self._begin(line, result)
                last = whole_answer(self._session, messages, interrupt, f"line {number}")[-1]
                result.finish(self._session.result(last))
            self.interrupted = interrupt.pressed
            yield number, result.fields
            if self.interrupted:
                return

    def _begin(self, line: bytes, result: _Result) -> list[dict[str, str]]:
        """Go on with the settings of a line; return its conversation, and keep its id."""
        given = _parsed(line)
        if "id" in given:
            result.fields["id"] = given.pop("id")
        messages = _messages(given)
        self._session.configure(overridden(self._settings, given))
        return messages

    def side_by_side(
        self, lines: Iterable[tuple[int, bytes]], size: int | None
    ) -> Iterator[Numbered]:
        """Answer several lines at once; give each result as soon as its turn has come."""
        from blendin_mlx.errors import BlendinError

        several = SideBySide(self._session, size)
        waiting: dict[int, _Result] = {}  # by line, of all lines begun and not given yet
        asked: list[tuple[_Result, int | None]] = []  # by prompt, with the seed of its answer

        def prompts() -> Iterator[BatchPrompt]:
            for number, line in _breaking_off(lines):
                result = waiting[number] = _Result()
                with result.noting():
                    prompt = several.prompt(self._begin(line, result))
                    asked.append((result, prompt.seed))
                    yield prompt

        def ready() -> Iterator[Numbered]:
            while (number := next(iter(waiting), None)) and waiting[number].is_done:
                yield number, waiting.pop(number).fields

        with interruptible() as interrupt:
            for index, outcome in several.answer(prompts(), interrupt):
                result, seed = asked[index]
                if isinstance(outcome, BlendinError):
                    result.fail(str(outcome))
                elif outcome.finish_reason:
                    result.finish({**self._session.result(outcome), "seed": seed})
                yield from ready()
            yield from ready()
        self.interrupted = interrupt.pressed


@dataclass
class _Result:
    """The result object of a line, while it is made."""

    fields: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False

    def finish(self, fields: dict[str, Any]) -> None:
        """Add what came of it."""
        self.fields.update(fields)
        self.is_done = True

    def fail(self, message: str) -> None:
        """Say what is wrong."""
        self.finish({"error": message})

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Context manager: what is wrong with a line is its result."""
        from blendin_mlx.errors import BlendinError

        try:
            yield
        except (ValueError, BlendinError) as error:
            self.fail(str(error))
        except click.ClickException as error:
            self.fail(error.format_message())


def _breaking_off(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Give lines on; while one is waited for, Ctrl-C breaks off at once."""
    coming = iter(lines)
    while True:
        with unswallowed_interrupt():
            line = next(coming, None)
        if line is None:
            return
        yield line


def _parsed(line: bytes) -> dict[str, Any]:
    from blendin_mlx.input_text import decoded, parsed_json

    try:
        given = parsed_json(decoded(line, "the line"))
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(given, dict):
        return given
    raise ValueError("not a JSON object")


def _messages(given: dict[str, Any]) -> list[dict[str, str]]:
    """Return the conversation of a line, and remove it from the line.

    A message's content is a text, or a list of texts as {"type": "text", "text": …}.
    """
    prompt, messages = given.pop("prompt", None), given.pop("messages", None)
    if (prompt is None) == (messages is None):
        raise ValueError('a line needs either "prompt" or "messages"')
    if prompt is not None:
        if not isinstance(prompt, str):
            raise ValueError('"prompt" must be a string')
        return [{"role": "user", "content": prompt}]
    read: list[Any] = list(map(_with_text, messages)) if isinstance(messages, list) else [None]
    if not all(map(_is_message, read)):
        raise ValueError('"messages" must be a list of {"role": …, "content": …}')
    return read


def _with_text(message: Any) -> Any:
    """Return a message with the texts of its content joined, if that is a list of them."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    if other := [part for part in content if not _is_text(part)]:
        raise ValueError(f"a content has a part that is not text: {other[0]!s:.60}")
    return {**message, "content": "".join(part["text"] for part in content)}


def _is_text(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") != "text":
        return False
    return isinstance(part.get("text"), str)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) for key in ("role", "content")
    )
