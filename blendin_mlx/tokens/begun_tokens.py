"""Guide tokens that the base has begun to write.

The base writes a guide token that it lacks in several of its own, of which φ is the first. In
between, the guide would read a text cut where it never cuts one: SmolLM2 has ``'s``, Gemma writes
``'`` and ``s``, and after a lone ``'`` SmolLM2 hardly expects an ``s``. So the guide is asked from
before the token, about the tokens that the base spells as it has written since.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .answer_text import AnswerText
from .projection import Projection, first_tokens


class Way(NamedTuple):
    """The guide tokens begun at one place of an answer.

    Attributes:
        length: how many tokens of the base have been written since the place.
        tokens: ids of the guide that are unfinished.
        following: the token of the base that each goes on with.
        exact: whether it ends with that one.
        finished: ids of the guide that end at each later place; the last is the answer's end.
    """

    length: int
    tokens: tuple[int, ...]
    following: tuple[int, ...]
    exact: tuple[bool, ...]
    finished: tuple[tuple[int, ...], ...]


Begun = tuple[Way, ...]  # by place, the earliest first


class _Spelled(NamedTuple):
    """Guide tokens that the base begins to spell with certain tokens, and those that it ends."""

    tokens: tuple[int, ...] = ()
    following: tuple[int, ...] = ()
    exact: tuple[bool, ...] = ()
    finished: tuple[int, ...] = ()


class BegunTokens:
    """Finds the guide tokens that an answer has begun.

    Args:
        projection: φ, which says what the base begins guide tokens with.
        size: ids of the guide from here on are ignored.

    Example:
        >>> answer.append(apostrophe)
        >>> BegunTokens(projection, size).find(answer)
        (Way(length=1, tokens=(506, …), following=(…), exact=(…), finished=((23,),)),)
    """

    def __init__(self, projection: Projection, size: int) -> None:
        self._projection = projection
        self._size = size
        self._longest = _longest(projection, size)
        self._most = max(self._longest.values(), default=0)
        self._spelled = lru_cache(maxsize=512)(self._spell)

    def find(self, answer: AnswerText) -> Begun:
        """Return what the answer, which ends with a character, has begun; empty if nothing."""
        length = self._earliest(answer)
        if not length:
            return ()
        ids = tuple(answer.ids[-length:])
        places = [0]
        for end in range(1, length):
            ended = any(self._spelled(ids[place:end]).finished for place in places)
            if ended and answer.text_before(length - end) is not None:
                places.append(end)
        ends = [*places[1:], length]
        return tuple(
            self._way(ids[place:], [e - place for e in ends[n:]]) for n, place in enumerate(places)
        )

    def _earliest(self, answer: AnswerText) -> int:
        """Return how many tokens ago the earliest token was begun that is unfinished; 0 if none."""
        written, earliest = 0, 0
        for length, token in enumerate(reversed(answer.ids), 1):
            written += len(self._projection.base.token_bytes[token] or b"")
            if written >= self._most:
                break
            if (
                written < self._longest.get(token, 0)
                and self._spelled(tuple(answer.ids[-length:])).tokens
                and answer.text_before(length) is not None
            ):
                earliest = length
        return earliest

    def _way(self, ids: tuple[int, ...], ends: list[int]) -> Way:
        tokens, following, exact, _ = self._spelled(ids)
        finished = tuple(self._spelled(ids[:end]).finished for end in ends)
        return Way(len(ids), tokens, following, exact, finished)

    def _spell(self, ids: tuple[int, ...]) -> _Spelled:
        """Return the guide tokens that the base spells with ``ids`` first."""
        projection = self._projection
        if len(ids) == 1:
            candidates = [t for t in projection.sources.get(ids[0], ()) if t < self._size]
        else:
            before = self._spelled(ids[:-1])
            pairs = zip(before.tokens, before.following, strict=True)
            candidates = [token for token, target in pairs if target == ids[-1]]
        written = len(projection.base.bytes_of(ids))
        rests = {
            token: rest[written:]
            for token in candidates
            if (rest := projection.aligned.token_bytes[token])
        }
        unfinished = {token: rest for token, rest in rests.items() if rest}
        first = first_tokens(projection.base, list(unfinished.values()))
        goes_on = [
            (token, target, projection.base.token_bytes[target] == rest)
            for (token, rest), target in zip(unfinished.items(), first, strict=True)
            if target < projection.base.size
        ]
        tokens, following, exact = zip(*goes_on, strict=True) if goes_on else ((), (), ())
        return _Spelled(tokens, following, exact, tuple(t for t, rest in rests.items() if not rest))


def _longest(projection: Projection, size: int) -> dict[int, int]:
    """Return how many bytes the longest guide token has that the base begins with each token."""
    longest: dict[int, int] = {}
    if projection.identity or projection.rule == "shared":  # no token goes by its beginning
        return longest
    base, aligned = projection.base, projection.aligned
    for token, target in enumerate(projection.table[:size]):
        written = aligned.token_bytes[token]
        if written and target < base.size and base.token_bytes[target] != written:
            longest[target] = max(longest.get(target, 0), len(written))
    return longest
