"""What is kept of earlier requests saves reading, and never outgrows its limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.serve.caches import MOST, CachePool
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from scripted import scripted_model, writes


class Kept:
    """A context that holds a byte for each token."""

    def __init__(self):
        self.tokens, self.logits = [], True

    @property
    def held_bytes(self):
        return len(self.tokens)

    def drop_logits(self):
        self.logits = False


class Cache:
    """A prompt cache of one context."""

    def __init__(self):
        self.base = Kept()

    def contexts(self):
        return {"base": self.base}


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), max_size=30)


@given(PROMPTS, st.integers(0, 40))
def test_the_limit_holds_whatever_is_asked(prompts, limit):
    pool = CachePool(Cache, limit)
    for prompt in prompts:
        cache = pool.take(prompt)
        cache.base.tokens = list(prompt)
        cache.base.logits = True  # type: ignore[attr-defined]
        pool.put(cache)
        assert pool.nbytes <= limit
        assert len(pool._caches) <= MOST
        assert not any(kept.base.logits for kept in pool._caches)  # type: ignore[attr-defined]


def test_the_cache_that_has_read_most_is_taken():
    pool = CachePool(Cache, 10**6)
    for tokens in ([1, 2, 3, 4], [5, 6, 7, 8]):
        cache = pool.take(tokens)
        cache.base.tokens = tokens
        pool.put(cache)
    assert pool.take([5, 6, 7, 9, 9]).base.tokens == [5, 6, 7, 8]
    assert pool.take([5, 6, 7, 9, 9]).base.tokens == []  # that one is in use


def test_a_long_conversation_is_not_thrown_away_for_a_short_beginning():
    pool = CachePool(Cache, 10**6)
    cache = pool.take([0])
    cache.base.tokens = list(range(100))
    pool.put(cache)
    assert pool.take([0, 1, 2, 500]).base.tokens == []
    assert pool.take(list(range(60))).base.tokens == list(range(100))


def test_the_one_that_was_not_used_for_longest_is_forgotten_first():
    pool = CachePool(Cache, 8)
    for tokens in ([1] * 4, [2] * 4, [3] * 4):
        cache = pool.take(tokens)
        cache.base.tokens = tokens
        pool.put(cache)
    assert [cache.base.tokens[0] for cache in pool._caches] == [2, 3]
    pool.clear()
    assert pool.nbytes == 0


def test_a_real_cache_counts_what_it_holds_and_drops_its_logits():
    model = scripted_model(writes("The", " sea"), "base")
    cache = make_prompt_cache(Pair(model, model))
    cache.base.read([1, 2, 3])
    held = cache.base.held_bytes
    assert held > 0
    assert cache.base.knows([1, 2, 3])
    cache.base.drop_logits()
    assert not cache.base.knows([1, 2, 3])
    assert cache.base.held_bytes == held
    again = cache.base.after([1, 2, 3])
    assert again.shape[0] == 1
