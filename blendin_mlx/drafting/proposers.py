"""Proposers of tokens: the guide's own continuation, and prompt lookup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

from ..reading.guide import Guide
from ..reading.reader import Reader
from ..tokens.answer_text import AnswerText, common_prefix, decode_complete
from ..tokens.vocabulary import Vocabulary

ProposerName = Literal["guide", "lookup"]
_NGRAMS = (3, 2)  # lengths of the n-gram, longest first


def cannot_rewind(context: Reader) -> str:
    """Return the message that a cache cannot forget a draft."""
    return f"the cache of {context.model.name} cannot be rewound"


class Proposer(Protocol):
    """A guesser of the next tokens of an answer."""

    name: ClassVar[ProposerName]

    @property
    def obstacle(self) -> str | None:
        """The reason why it can propose nothing now, None if it can."""

    def propose(self, answer: AnswerText, count: int) -> list[int]:
        """Return up to ``count`` ids of the base that may follow the answer so far."""


class GuideProposer:
    """The guide's own greedy continuation.

    Its distributions at the drafted positions are kept for the method. With another tokenizer, it
    proposes the base's tokenization of the guide's text.
    """

    name: ClassVar[ProposerName] = "guide"

    def __init__(self, guide: Guide, base: Vocabulary) -> None:
        self._guide = guide
        self._base = base

    @property
    def obstacle(self) -> str | None:
        context = self._guide.context
        return None if context.can_trim() else cannot_rewind(context)

    def propose(self, answer: AnswerText, count: int) -> list[int]:
        if not self._guide.can_read(answer):
            return []
        drafted = self._guide.continuation(answer, count)
        if self._guide.projection.identity:
            return [token for token in drafted if token < self._base.size]
        written = self._guide.context.model.vocabulary.bytes_of(drafted)
        return self._base.encode(decode_complete(written)[0])[:count]


class LookupProposer:
    """The tokens that followed the last n-gram where it occurred before, in prompt or answer.

    Source: prompt lookup decoding (Saxena 2023).
    """

    name: ClassVar[ProposerName] = "lookup"
    obstacle: ClassVar[str | None] = None

    def __init__(self, prompt: Sequence[int]) -> None:
        self._prompt = list(prompt)
        self._seen: dict[tuple[int, ...], int] = {}
        self._indexed: list[int] = []

    def propose(self, answer: AnswerText, count: int) -> list[int]:
        tokens = [*self._prompt, *answer.ids]
        self._index(tokens)
        for length in _NGRAMS:
            start = self._seen.get(tuple(tokens[-length:]))
            if start is not None and (found := tokens[start : start + count]):
                return found
        return []

    def _index(self, tokens: list[int]) -> None:
        known = common_prefix(self._indexed, tokens)
        if known < len(self._indexed):  # a part was taken back since then
            self._seen, known = {}, 0
        for end in range(known, len(tokens)):
            for length in _NGRAMS:
                if end >= length:
                    self._seen[tuple(tokens[end - length : end])] = end
        self._indexed = tokens
