"""The guide: the aligned model reads what the base has written, and gives advice.

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
from ..tokens.begun_tokens import Begun
from ..tokens.growing_tokens import GrowingTokens
from ..tokens.projection import Projection
from .begun_advice import shares
from .reader import Reader
from .requests import Deciding, logits_after, run
from .said import Said, Told

_MOST_TOKENS_A_CHARACTER = 4  # one for each byte


class Reference(NamedTuple):
    """The guide's unaligned twin: it reads what the guide reads, in the same tokens."""

    context: Reader
    projection: Projection

    def distribution(self, logits: mx.array) -> mx.array:
        """Its distribution ``[n, V_a]`` of logits ``[n, V_a']``."""
        return self.context.model.vocabulary.distribution(logits)

    def carried(self, logits: mx.array) -> mx.array:
        """Its distribution, from logits ``[n, V_a']`` to ``[n, V]`` over the base's vocabulary."""
        return self.projection.carry(self.distribution(logits)).probs


class Guide:
    """The aligned model during one answer.

    Args:
        context: the aligned model's context; it may already hold a part of the prompt.
        projection: φ from its vocabulary to the base's.
        prompt: what it reads before the answer.
        reference: its unaligned twin, where the method needs it.
        temperature: of its distribution; of its twin's too.

    Raises:
        ValueError: a temperature that is not above 0.
    """

    def __init__(
        self,
        context: Reader,
        projection: Projection,
        prompt: Sequence[int],
        reference: Reference | None = None,
        temperature: float = 1.0,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature:g}")
        self._temperature = temperature
        self.context = context
        self.projection = projection
        self.reference = reference
        self._prompt = list(prompt)
        vocabulary = context.model.vocabulary
        self._tokens = None if projection.identity else GrowingTokens(vocabulary)
        self._rows = min(one.model.vocabulary.size for one in self.contexts())
        self._has_more = projection.base.size > self._rows

    def can_read(self, answer: AnswerText) -> bool:
        """Return whether this model can read the answer so far.

        With another tokenizer it reads text, and bytes that do not yet form a character are not
        text: the base completes the character alone.
        """
        return self._tokens is None or not answer.pending

    def sequence(self, answer: AnswerText) -> list[int]:
        """Return the prompt and the answer so far, in this model's tokens."""
        if self._tokens is not None:
            return self._read(answer.text)
        if self._has_more:  # control tokens of the base, which write nothing
            return self._prompt + [token for token in answer.ids if token < self._rows]
        return self._prompt + answer.ids

    def _read(self, text: str) -> list[int]:
        assert self._tokens is not None
        return self._prompt + self._tokens.update(text)

    def begun(self, answer: AnswerText) -> Begun:
        """Return the guide tokens that the answer, which must be readable, has begun."""
        if self._tokens is None:  # the base has all of its tokens
            return ()
        found: Begun = self.projection.begun_tokens.find(answer)
        return found

    def sequences_before(self, answer: AnswerText, begun: Begun) -> list[list[int]]:
        """Return the prompt and the answer before each place where a token was begun."""
        return [self._read(answer.text_before(way.length) or "") for way in begun]

    def is_full(self, answer: AnswerText) -> bool:
        """Return whether a context of the guide has no room for another token."""
        models = [context.model for context in self.contexts()]
        limit = min((m.context_limit for m in models if m.context_limit is not None), default=None)
        most = len(self._prompt) + _MOST_TOKENS_A_CHARACTER * len(answer.text) + len(answer.ids)
        if limit is None or most < limit:  # far below the limit: the text need not be tokenized
            return False
        return len(self.sequence(answer)) >= limit

    def continuation(self, answer: AnswerText, count: int) -> list[int]:
        """Return up to ``count`` tokens of the guide's greedy continuation, in its own ids.

        It ends before a token that writes nothing, such as STOP, and with the context. It is empty
        if the guide's cache could not forget it.
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

    def begin(self, token: mx.array) -> None:
        """Start the passes over a token of the base early, where this model has the same tokens."""
        if self._tokens is None and not self._has_more:
            for context in self.contexts():
                context.begin(token)

    def expect(self, answer: AnswerText) -> None:
        """Let another machine read the answer so far before this guide is asked.

        It does the first pass that :meth:`advising` would need; mostly that is the only one.
        """
        if self.can_read(answer):
            _, passes = self._passes(answer)
            for context in self.contexts():
                if needed := [one for one in passes if not context.knows(one[0])]:
                    context.expect(*needed[0])

    def settle(self, answer: AnswerText) -> None:
        """Rewind the contexts to the end of the answer."""
        for context in self.contexts():
            context.move_to(self.sequence(answer))

    def members(self) -> Sequence[Guide]:
        """Return the guides that are asked: this one."""
        return [self]

    def twin(self) -> Reader | None:
        """Return the context of its unaligned twin, if it has one."""
        return self.reference.context if self.reference else None

    def openings(self) -> list[tuple[Reader, list[int]]]:
        """Return each context with what it reads before the answer."""
        return [(context, self._prompt) for context in self.contexts()]

    def contexts(self) -> list[Reader]:
        """Return the contexts that read what the guide reads: its own, and its twin's."""
        return [self.context] + ([self.reference.context] if self.reference else [])

    def advise(self, answer: AnswerText) -> Advice:
        """Return what the guide says comes next, lazily: arrays over one position ``[1, …]``."""
        return run(self.advising(answer))

    def advising(self, answer: AnswerText) -> Deciding[Advice]:
        """Ask for what :meth:`advise` returns."""
        begun, passes = self._passes(answer)
        logits, before = [], []
        for context in self.contexts():
            rows = []
            for tokens, draft in passes:
                rows.append((yield from logits_after(context, tokens, draft)))
            before += [mx.concatenate(rows[:-1])] if rows[:-1] else []
            logits.append(rows[-1])
        return self.advice(logits, [begun], before)

    def _passes(self, answer: AnswerText) -> tuple[Begun, list[tuple[list[int], list[int]]]]:
        """Return what the answer has begun, and after which tokens the logits are needed.

        Each place where a token was begun comes with what may follow it: one pass reads them all
        where each is the beginning of the next. The last is the whole answer.
        """
        begun = self.begun(answer)
        earlier = self.sequences_before(answer, begun)
        whole = self.sequence(answer)
        places = [(one, whole[len(one) :] if whole[: len(one)] == one else []) for one in earlier]
        return begun, [*places, (whole, [])]

    def advice(
        self,
        logits: Sequence[mx.array],
        begun: Sequence[Begun] = (),
        before: Sequence[mx.array] = (),
    ) -> Advice:
        """Return the advice at ``n`` positions, lazily.

        Args:
            logits: the aligned model's ``[n, V_g']``, and the reference model's ``[n, V_a']`` if
                there is one.
            begun: the guide tokens that are begun at each position.
            before: the logits of each model at the places of those, in their order, ``[k, V']``.
        """
        vocabulary = self.context.model.vocabulary
        probs = self.distribution(logits[0])
        top = formulas.top(probs)
        carried = self.projection.carry(probs)
        twin = None
        if self.reference is not None:
            twin = self.reference.carried(self._tempered(logits[1]))
        advice = Advice(
            probs=carried.probs,
            confidence=top.prob,
            token=top.token,
            counterpart=self.projection.counterpart(top.token),
            exact_mass=carried.exact_mass,
            prefix_mass=carried.prefix_mass,
            stop_prob=probs[..., vocabulary.stop],
            reference_probs=twin,
            own_probs=probs,
        )
        if not any(begun):
            return advice
        found = shares(begun, self.distribution(before[0]))
        if self.reference is None:
            return found.applied(advice, None)
        said = self.reference.distribution(self._tempered(before[1]))
        return found.applied(advice, shares(begun, said))

    def distribution(self, logits: mx.array) -> mx.array:
        """Return the aligned model's distribution ``[n, V_g]`` of logits ``[n, V_g']``."""
        return self.context.model.vocabulary.distribution(self._tempered(logits))

    def together(self, said: Sequence[Said]) -> Advice:
        """Return the advice at ``n`` positions, from what this guide said there."""
        return self.advice(*said[0])

    def told(self, tokens: Sequence[int], said: Sequence[Said]) -> Told:
        """Return what the advice at ``n`` positions gives to one token of the base at each.

        It is part of what :meth:`together` returns, and takes less.

        Args:
            tokens: ``n`` ids of the base.
            said: what this guide said there.
        """
        logits, begun, before = said[0]
        probs = self.distribution(logits[0])
        top = formulas.top(probs)
        prob = self.projection.carry_to(probs, tokens)
        counterpart = self.projection.counterpart(top.token)
        if any(begun):
            found = shares(begun, self.distribution(before[0]))
            prob = found.finished * prob + found.on(mx.array(list(tokens)))
            top, counterpart = found.leading(top, counterpart)
        return Told(top.prob, prob, counterpart, (top.prob,))

    def _tempered(self, logits: mx.array) -> mx.array:
        return formulas.tempered(logits, self._temperature)
