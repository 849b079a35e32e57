"""Texts of the harness scored by the method of a session."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..session import Session
from .openings import Opener, Opening, Openings, first_token

if TYPE_CHECKING:
    from blendin_mlx.prompts import PairPrompt
    from blendin_mlx.scoring.score import Score


class Window(NamedTuple):
    """A part of a long text: what both models read before it, and its tokens."""

    base: list[int]
    aligned: list[int]
    tokens: list[int]


class Scorer:
    """Scores continuations and whole documents.

    ``aligned`` alone is a base alone: the guide takes both places, so that its own tokens are
    counted by the same rule.

    Args:
        session: the models, the method and the settings.
        opener: finds out what the models read.
        progress: called after each pass; what it raises breaks off.
    """

    def __init__(self, session: Session, opener: Opener, progress: Callable[[], None]) -> None:
        from blendin_mlx.blend.methods import make_method
        from blendin_mlx.model import Pair
        from blendin_mlx.prompt_cache import PromptCache

        self._opener, self._progress = opener, progress
        self._projection = session.settings.projection
        self._pair, self._cache, self._method = session.pair, session.cache, session.method
        self._is_alone = session.method.name == "aligned"
        if self._is_alone:
            self._pair = Pair(session.pair.aligned, session.pair.aligned)
            self._cache = PromptCache(session.cache.aligned, session.cache.aligned)
            self._method = make_method("base")

    def continuation(self, context: str, text: str) -> Score:
        """Score a text as the continuation of a context.

        Raises:
            PromptError: nothing to score, or more than a context holds.
        """
        base, aligned = self._openings(context)
        before, tokens = base.split(text)
        read, own = aligned.split(text)
        return self._score(
            Window(
                self._opener.fitting(base.model, before, len(tokens)),
                self._opener.fitting(aligned.model, read, len(own)),
                tokens,
            )
        )

    def document(self, text: str) -> list[Score]:
        """Score a whole text, in windows where it is longer than a context."""
        return [self._score(window) for window in self._windows(text)]

    def _openings(self, context: str) -> tuple[Opening, Opening]:
        found: Openings = self._opener.open(context)
        return (found.aligned if self._is_alone else found.base), found.aligned

    def _score(self, window: Window) -> Score:
        from blendin_mlx.scoring.score import score

        return score(
            self._pair,
            pair_prompt(window.base, window.aligned),
            window.tokens,
            method=self._method,
            complete=False,
            projection=self._projection,
            prompt_cache=self._cache,
            progress=lambda done, total: self._progress(),
        )

    def _windows(self, text: str) -> list[Window]:
        """Cut a text as the harness does, so that each token is predicted once.

        The windows are those of the base's tokens; where the guide needs more tokens for one than
        its context holds, they are halved.
        """
        opening, _ = self._openings("")
        tokens = opening.encode(text)
        limit = self._pair.base.context_limit
        size = max(len(tokens), 1) if limit is None else limit - 1
        windows = self._cut(tokens, size)
        while size > 1 and not all(map(self._fits, windows)):
            size //= 2
            windows = self._cut(tokens, size)
        return windows

    def _cut(self, tokens: list[int], size: int) -> list[Window]:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        first = first_token(self._pair.base)
        cut = get_rolling_token_windows(tokens, first, size, 1)
        return [
            Window(before, self._read_before(before), part)
            for before, part in map(make_disjoint_window, cut)
        ]

    def _read_before(self, ids: Sequence[int]) -> list[int]:
        """Return what the guide reads for these ids of the base."""
        from blendin_mlx.inspection import begun

        own = begun(self._pair, pair_prompt((), ()), ids).aligned.ids
        return list(own) or [first_token(self._pair.aligned)]

    def _fits(self, window: Window) -> bool:
        """Return whether the guide can read a window, if it is asked at all."""
        guide = self._pair.aligned
        limit = guide.context_limit if self._method.asks else None
        written = self._pair.base.vocabulary.bytes_of(window.tokens).decode(errors="replace")
        own = guide.vocabulary.encode(written)
        return len(window.aligned) + len(own) <= (math.inf if limit is None else limit)


def pair_prompt(
    base: Sequence[int], aligned: Sequence[int], stops: tuple[str, ...] = ()
) -> PairPrompt:
    """Return prompts of ids alone."""
    from blendin_mlx.prompts import PairPrompt, Prompt

    return PairPrompt(Prompt("", tuple(base)), Prompt("", tuple(aligned)), stops)
