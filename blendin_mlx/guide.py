"""The aligned model as it is asked: it reads what the base has written, and gives advice.

It is run only when asked, over all tokens since its last run, in one pass.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from . import blending
from .context import Context
from .methods import Advice
from .projection import Projection
from .text import AnswerText, GrowingTokens

MOST_TOKENS_A_CHARACTER = 4  # one for each byte


class Guide:
    """The aligned model beside one answer.

    Args:
        context: the aligned model's context; it may already hold a part of the prompt.
        projection: φ from its vocabulary to the base's.
        prompt: what it reads before the answer.
    """

    def __init__(
        self,
        context: Context,
        projection: Projection,
        prompt: Sequence[int],
    ) -> None:
        self.context = context
        self.projection = projection
        self._prompt = list(prompt)
        vocabulary = context.model.vocabulary
        self._tokens = None if projection.identity else GrowingTokens(vocabulary)

    def can_read(self, answer: AnswerText) -> bool:
        """Whether the answer so far is something this model can read.

        With its own tokenizer it reads text, and bytes that do not yet form a character are not
        text: the base finishes the character alone.
        """
        return self._tokens is None or not answer.pending

    def sequence(self, answer: AnswerText) -> list[int]:
        """The prompt and the answer so far, in this model's tokens."""
        written = answer.ids if self._tokens is None else self._tokens.update(answer.text)
        return self._prompt + written

    def is_full(self, answer: AnswerText) -> bool:
        """Whether the aligned model's context has no room for another token."""
        limit = self.context.model.context_limit
        most = len(self._prompt) + MOST_TOKENS_A_CHARACTER * len(answer.text) + len(answer.ids)
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
        self.context.move_to(self.sequence(answer))

    def advise(self, answer: AnswerText) -> Advice:
        """What the guide says comes next, lazily: arrays over one position ``[1, …]``."""
        vocabulary = self.context.model.vocabulary
        probs = vocabulary.distribution(self.context.after(self.sequence(answer)))
        top = blending.top(probs)
        carried = self.projection.carry(probs)
        return Advice(
            probs=carried.probs,
            confidence=top.prob,
            token=top.token,
            counterpart=self.projection.counterpart(top.token),
            exact_mass=carried.exact_mass,
            prefix_mass=carried.prefix_mass,
            stop_prob=probs[..., vocabulary.stop],
        )
