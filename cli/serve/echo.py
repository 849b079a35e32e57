"""Prompts that are sent back, each token scored by the method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..session import Session
from .caches import CachePool
from .errors import refused
from .parts import Part, ShownToken, TokenProb, token_of

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_options import AnswerOptions
    from blendin_mlx.prompts import PairPrompt
    from blendin_mlx.scoring.score import Score


class Abandoned(Exception):  # noqa: N818 - no error: nobody waits for the score
    """Scoring was told to stop."""


class Echo:
    """The prompts of completions: what both models read of them, and how likely they are.

    Args:
        session: the models.
        pool: what they have read for earlier requests.
    """

    def __init__(self, session: Session, pool: CachePool) -> None:
        self._pair, self._pool = session.pair, pool

    def prompt(self, ids: Sequence[int]) -> PairPrompt:
        """Return tokens of the base as both models read them, after their beginning-of-text."""
        from blendin_mlx.inspection import begun
        from blendin_mlx.prompts import PairPrompt, Prompt

        opening = self._pair.base.beginning
        own = ids[len(opening) :] if self._is_opened(ids) else ids
        aligned, *others = (Prompt("", guide.beginning) for guide in self._pair.guides)
        empty = PairPrompt(Prompt("", opening), aligned, others=tuple(others))
        return begun(self._pair, empty, own)

    def part(
        self,
        ids: Sequence[int],
        top: int | None,
        options: AnswerOptions,
        should_stop: Callable[[], bool],
    ) -> Part:
        """Return a prompt as the first part of what follows it.

        Args:
            ids: its tokens.
            top: how many likeliest tokens at each place; None scores nothing.
            options: of the answer; its method scores.
            should_stop: asked after each pass.

        Raises:
            Abandoned: scoring was told to stop.
        """
        written = self._pair.base.vocabulary.bytes_of(ids)
        shown = () if top is None else tuple(self._scored(ids, top, options, should_stop))
        return Part(written.decode(errors="replace"), shown, ())

    def _is_opened(self, ids: Sequence[int]) -> bool:
        opening = self._pair.base.beginning
        return tuple(ids[: len(opening)]) == opening

    def _scored(
        self,
        ids: Sequence[int],
        top: int,
        options: AnswerOptions,
        should_stop: Callable[[], bool],
    ) -> Iterator[ShownToken]:
        """Yield the tokens of a prompt with what the method gives them, each after the others.

        Beginning-of-text has no probability, nor has a first token before which one of the models
        has nothing to read.
        """
        pair, vocabulary = self._pair, self._pair.base.vocabulary
        before = len(pair.base.beginning) if self._is_opened(ids) else 0
        before += not all(model.beginning for model in (pair.base, *pair.guides))
        for token in ids[:before]:
            yield ShownToken(TokenProb(vocabulary.bytes_of([token]), None), ())
        if len(ids) <= before:
            return
        score = self._score(ids, before, max(1, top), options, should_stop)
        for token, logprob, ranked in zip(ids[before:], score.log_probs, score.top, strict=True):
            likeliest = tuple(token_of(one, vocabulary) for one in ranked[:top])
            yield ShownToken(TokenProb(vocabulary.bytes_of([token]), logprob), likeliest)

    def _score(
        self,
        ids: Sequence[int],
        before: int,
        top: int,
        options: AnswerOptions,
        should_stop: Callable[[], bool],
    ) -> Score:
        from blendin_mlx.scoring.score import score

        def watch(done: int, total: int) -> None:
            if should_stop():
                raise Abandoned

        cache = self._pool.take(ids)
        scored = score(
            self._pair,
            self.prompt(ids[:before]),
            ids[before:],
            method=options.method,
            complete=False,
            projection=options.projection,
            prompt_cache=cache,
            top=top,
            progress=watch,
        )
        self._pool.put(cache)
        if scored.token_ids != tuple(ids[before:]):
            raise refused("echo", "with logprobs needs a method that decides on the base's tokens")
        return scored
