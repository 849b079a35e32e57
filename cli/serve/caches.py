"""What the models have read for earlier requests, kept for later ones within a limit of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blendin_mlx.prompt_cache import PromptCache

MOST = 8  # conversations at once


class CachePool:
    """Prompt caches, the last used one at the end.

    Args:
        make: makes an empty cache.
        limit: bytes that all of them may hold between two answers.

    Example:
        >>> pool = CachePool(lambda: make_prompt_cache(pair), limit=2**30)
        >>> cache = pool.take(prompt.base.ids)
        >>> ...                                  # answer with it
        >>> pool.put(cache)
    """

    def __init__(self, make: Callable[[], PromptCache], limit: int) -> None:
        self._make, self._limit = make, limit
        self._caches: list[PromptCache] = []

    def take(self, tokens: Sequence[int]) -> PromptCache:
        """Return the cache that has read most of these tokens of the base.

        It is a new one where the best would lose more than it saves.
        """
        from blendin_mlx.tokens.answer_text import common_prefix

        def shared(cache: PromptCache) -> int:
            return common_prefix(cache.base.tokens, tokens)

        best = max(self._caches, key=shared, default=None)
        if best is None or 2 * shared(best) < len(best.base.tokens):
            return self._make()
        self._caches.remove(best)
        return best

    def put(self, cache: PromptCache) -> None:
        """Keep a cache; forget those that were not used for longest, while they are too large."""
        for context in cache.contexts().values():
            context.drop_logits()
        self._caches.append(cache)
        while self._caches and (len(self._caches) > MOST or self.nbytes > self._limit):
            self._caches.pop(0)

    def clear(self) -> None:
        """Forget all of them."""
        self._caches.clear()

    @property
    def nbytes(self) -> int:
        """Bytes that they hold."""
        return sum(
            context.held_bytes for cache in self._caches for context in cache.contexts().values()
        )
