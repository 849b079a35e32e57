"""What decoding and scoring need of whoever is asked: one guide, or several together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..backend.mlx import mx
from ..blend.method import Advice
from ..tokens.answer_text import AnswerText
from .reader import Reader
from .requests import Deciding


class Told(NamedTuple):
    """What is said of one token of the base at each of ``n`` positions."""

    confidence: mx.array  # [n], p̂_g
    prob: mx.array  # [n], P̃_g of the token
    counterpart: mx.array  # [n], φ(t_g)
    sure: tuple[mx.array, ...]  # [n] of each guide: its own p̂


class Advisor(Protocol):
    """Who is asked during one answer; :class:`.guide.Guide` describes the methods."""

    def asked(self) -> list[Reader]:
        """Return the contexts of the guides that are asked, without a twin's."""

    def twin(self) -> Reader | None:
        """Return the context of the guide's unaligned twin, if the method needs it."""

    def contexts(self) -> list[Reader]:
        """Return the contexts of all models that are asked."""

    def openings(self) -> list[tuple[Reader, list[int]]]:
        """Return each context with what it reads before the answer."""

    def sequences(self, answer: AnswerText) -> list[list[int]]:
        """Return what each context reads up to the end of the answer."""

    def can_read(self, answer: AnswerText) -> bool:
        """Return whether the answer so far can be read."""

    def is_full(self, answer: AnswerText) -> bool:
        """Return whether a context has no room for another token."""

    def begin(self, token: mx.array) -> None:
        """Start the passes over a token of the base early, where that is possible."""

    def settle(self, answer: AnswerText) -> None:
        """Rewind the contexts to the end of the answer."""

    def advise(self, answer: AnswerText) -> Advice:
        """Return what comes next, lazily."""

    def advising(self, answer: AnswerText) -> Deciding[Advice]:
        """Ask for what :meth:`advise` returns."""

    def advice(self, *logits: mx.array) -> Advice:
        """Return the advice at ``n`` positions, from the logits of each of the contexts."""

    def told(self, tokens: Sequence[int], *logits: mx.array) -> Told:
        """Return what the advice at ``n`` positions gives to one token of the base at each."""

    def plain_counterpart(self, *logits: mx.array) -> mx.array:
        """Return φ of the likeliest token at ``n`` positions, as the logits are, ``[n]``."""
