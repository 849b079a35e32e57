"""The aligned model as it is asked: it reads what the base has written, and gives advice.

It is run only when asked, over all tokens since its last run, in one pass.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..backend.mlx import mx
from ..blend import formulas
from ..blend.method import Advice
from ..tokens.answer_text import AnswerText
from ..tokens.growing_tokens import GrowingTokens
from ..tokens.projection import Projection
from .context import Context

_MOST_TOKENS_A_CHARACTER = 4  # one for each byte


class Reference(NamedTuple):
    """The guide's unaligned twin: it reads what the guide reads, in the same tokens."""

    context: Context
    projection: Projection

    def probs_after(self, tokens: Sequence[int]) -> mx.array:
        """Its distribution ``[1, V]`` after a sequence, carried to the base's vocabulary."""
        probs = self.context.model.vocabulary.distribution(self.context.after(tokens))
        return self.projection.carry(probs).probs


class Guide:
    """The aligned model beside one answer.

    Args:
        context: the aligned model's context; it may already hold a part of the prompt.
        projection: φ from its vocabulary to the base's.
        prompt: what it reads before the answer.
        reference: its unaligned twin, where the method needs it.
    """

    def __init__(
        self,
        context: Context,
        projection: Projection,
        prompt: Sequence[int],
        reference: Reference | None = None,
    ) -> None:
        self.context = context
        self.projection = projection
        self.reference = reference
        self._prompt = list(prompt)
        vocabulary = context.model.vocabulary
        self._tokens = None if projection.identity else GrowingTokens(vocabulary)
        self._rows = min(one.model.vocabulary.size for one in self.contexts())
        self._has_more = projection.base.size > self._rows

    def can_read(self, answer: AnswerText) -> bool:
        """Whether the answer so far is something this model can read.

        With its own tokenizer it reads text, and bytes that do not yet form a character are not
        text: the base finishes the character alone.
        """
        return self._tokens is None or not answer.pending

    def sequence(self, answer: AnswerText) -> list[int]:
        """The prompt and the answer so far, in this model's tokens."""
        if self._tokens is not None:
            written = self._tokens.update(answer.text)
        elif self._has_more:  # control tokens of the base, which write nothing
            written = [token for token in answer.ids if token < self._rows]
        else:
            written = answer.ids
        return self._prompt + written

    def is_full(self, answer: AnswerText) -> bool:
        """Whether a context of the guide's has no room for another token."""
        models = [context.model for context in self.contexts()]
        limit = min((m.context_limit for m in models if m.context_limit is not None), default=None)
        most = len(self._prompt) + _MOST_TOKENS_A_CHARACTER * len(answer.text) + len(answer.ids)
        if limit is None or most < limit:  # far from it: the text need not be tokenized
            return False
        return len(self.sequence(answer)) >= limit

    def continuation(self, answer: AnswerText, count: int) -> list[int]:
        """Up to ``count`` of the guide's own tokens as it alone would go on, read at once.

        They end before a token that writes nothing, as its STOP, and with the context. There are
        none where they could not be forgotten again.
        """
        vocabulary = self.context.model.vocabulary
        tokens = self.sequence(answer)
        count = min(count, (self.context.model.context_limit or sys.maxsize) - len(tokens))
        if not self.context.can_trim(len(tokens) + count):
            return []
        written: list[int] = []
        while len(written) < count:
            logits = self.context.after([*tokens, *written])
            token: Any = logits[0, : vocabulary.size].argmax().item()
            if not vocabulary.token_bytes[token]:
                break
            written.append(token)
        return written

    def settle(self, answer: AnswerText) -> None:
        """Forget what was read beyond the answer."""
        for context in self.contexts():
            context.move_to(self.sequence(answer))

    def contexts(self) -> list[Context]:
        """Return the contexts that read what the guide reads: its own, and its twin's."""
        return [self.context] + ([self.reference.context] if self.reference else [])

    def advise(self, answer: AnswerText) -> Advice:
        """What the guide says comes next, lazily: arrays over one position ``[1, …]``."""
        vocabulary = self.context.model.vocabulary
        tokens = self.sequence(answer)
        probs = vocabulary.distribution(self.context.after(tokens))
        top = formulas.top(probs)
        carried = self.projection.carry(probs)
        return Advice(
            probs=carried.probs,
            confidence=top.prob,
            token=top.token,
            counterpart=self.projection.counterpart(top.token),
            exact_mass=carried.exact_mass,
            prefix_mass=carried.prefix_mass,
            stop_prob=probs[..., vocabulary.stop],
            reference_probs=self.reference and self.reference.probs_after(tokens),
            own_probs=probs,
        )
