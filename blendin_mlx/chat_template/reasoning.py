"""Thinking blocks, ``<think>…</think>``, which are not part of the conversation."""

from __future__ import annotations

import re

OPENING, CLOSING = "<think>", "</think>"
# A template may write the opening tag itself: then an answer has only the closing tag.
_BLOCK = re.compile(r"(?:\A|<think>)(?:(?!<think>).)*?</think>\s*", re.DOTALL)


def without_reasoning(text: str) -> str:
    """Return an answer without its thinking; an unfinished block is kept.

    Example:
        >>> without_reasoning("<think>\\nHm.\\n</think>\\n\\nYes.")
        'Yes.'
    """
    return _BLOCK.sub("", text) if CLOSING in text else text


class ReasoningSplitter:
    """A splitter of streamed text into thinking and the rest; tags belong to the thinking.

    Args:
        thinking: true if the prompt has opened a block already.

    Example:
        >>> splitter = ReasoningSplitter()
        >>> splitter.feed("<thi"), splitter.feed("nk>Hm.</think> Yes")
        ([], [('<think>Hm.</think>', True), (' Yes', False)])
    """

    def __init__(self, thinking: bool = False) -> None:
        self._thinking = thinking
        self._held = ""

    def feed(self, text: str) -> list[tuple[str, bool]]:
        """Return the parts that are certain by now, each with True if it is thinking."""
        rest, parts = self._held + text, list[tuple[str, bool]]()
        while (tag := CLOSING if self._thinking else OPENING) in rest:
            before, _, rest = rest.partition(tag)
            parts += [(before, self._thinking), (tag, True)]
            self._thinking = not self._thinking
        kept = len(rest) - _begun(rest, tag)
        self._held = rest[kept:]
        return _joined([*parts, (rest[:kept], self._thinking)])

    def end(self) -> list[tuple[str, bool]]:
        """Return the text withheld because it could have begun a tag."""
        held, self._held = self._held, ""
        return _joined([(held, self._thinking)])


def _begun(text: str, tag: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a tag."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)


def _joined(parts: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Return the parts that are not empty, with adjacent parts of one kind merged."""
    joined: list[tuple[str, bool]] = []
    for text, thinking in parts:
        if joined and joined[-1][1] == thinking:
            text = joined.pop()[0] + text
        if text:
            joined.append((text, thinking))
    return joined
