"""What decoding and scoring need of whoever is asked: one guide, or several together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..backend.mlx import mx
from ..blend.method import Advice
from ..tokens.answer_text import AnswerText
from .guide import Guide
from .reader import Reader
from .requests import Deciding
from .said import Said, Told


class Advisor(Protocol):
    """Who is asked during one answer; :class:`.guide.Guide` describes the methods."""

    def members(self) -> Sequence[Guide]:
        """Return the guides that are asked."""

    def twin(self) -> Reader | None:
        """Return the context of the guide's unaligned twin, if the method needs it."""

    def openings(self) -> list[tuple[Reader, list[int]]]:
        """Return each context with what it reads before the answer."""

    def can_read(self, answer: AnswerText) -> bool:
        """Return whether the answer so far can be read."""

    def is_full(self, answer: AnswerText) -> bool:
        """Return whether a context has no room for another token."""

    def begin(self, token: mx.array) -> None:
        """Start the passes over a token of the base early, where that is possible."""

    def expect(self, answer: AnswerText) -> None:
        """Let guides on another machine read the answer so far before they are asked."""

    def settle(self, answer: AnswerText) -> None:
        """Rewind the contexts to the end of the answer."""

    def advise(self, answer: AnswerText) -> Advice:
        """Return what comes next, lazily."""

    def advising(self, answer: AnswerText) -> Deciding[Advice]:
        """Ask for what :meth:`advise` returns."""

    def together(self, said: Sequence[Said]) -> Advice:
        """Return the advice at ``n`` positions, from what each of the guides said there."""

    def told(self, tokens: Sequence[int], said: Sequence[Said]) -> Told:
        """Return what the advice at ``n`` positions gives to one token of the base at each."""


def is_remote(advisor: Advisor) -> bool:
    """Return whether a model that is asked runs on another machine."""
    return any(reader.model.elsewhere is not None for reader, _ in advisor.openings())
