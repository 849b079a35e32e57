"""Guide tokens that the base has begun to write.

The base writes a guide token that it lacks in several of its own, of which φ is the first. In
between, the guide would read a text cut where it never cuts one: SmolLM2 has ``'s``, Gemma writes
``'`` and ``s``, and after a lone ``'`` SmolLM2 hardly expects an ``s``. So the guide is asked from
before the token, about the tokens that the base spells as it has written since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from .answer_text import AnswerText
from .first_tokens import first_tokens
from .vocabulary import Vocabulary


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
        base, aligned: the two vocabularies.
        sources: the guide tokens that φ sends to each token of the base.

    Example:
        >>> answer.append(apostrophe)
        >>> projection.begun_tokens.find(answer)
        (Way(length=1, tokens=(506, …), following=(…), exact=(…), finished=((23,),)),)
    """

    def __init__(
        self, base: Vocabulary, aligned: Vocabulary, sources: Mapping[int, Sequence[int]]
    ) -> None:
        self._base, self._aligned, self._sources = base, aligned, sources
        self._longest = _longest(base, aligned, sources)
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
            self._way(ids[place:], [end - place for end in ends[n:]])
            for n, place in enumerate(places)
        )

    def _earliest(self, answer: AnswerText) -> int:
        """Return how many tokens ago the earliest token was begun that is unfinished; 0 if none."""
        written, earliest = 0, 0
        for length, token in enumerate(reversed(answer.ids), 1):
            written += len(self._base.token_bytes[token] or b"")
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
        if len(ids) == 1:
            candidates = list(self._sources.get(ids[0], ()))
        else:
            before = self._spelled(ids[:-1])
            pairs = zip(before.tokens, before.following, strict=True)
            candidates = [token for token, target in pairs if target == ids[-1]]
        written = len(self._base.bytes_of(ids))
        rests = {
            token: rest[written:]
            for token in candidates
            if (rest := self._aligned.token_bytes[token])
        }
        unfinished = {token: rest for token, rest in rests.items() if rest}
        first = first_tokens(self._base, list(unfinished.values()))
        goes_on = [
            (token, target, self._base.token_bytes[target] == rest)
            for (token, rest), target in zip(unfinished.items(), first, strict=True)
            if target < self._base.size
        ]
        tokens, following, exact = zip(*goes_on, strict=True) if goes_on else ((), (), ())
        return _Spelled(tokens, following, exact, tuple(t for t, rest in rests.items() if not rest))


def _longest(
    base: Vocabulary, aligned: Vocabulary, sources: Mapping[int, Sequence[int]]
) -> dict[int, int]:
    """Return how many bytes the longest guide token has that the base begins with each token."""
    longest: dict[int, int] = {}
    for target, tokens in sources.items():
        if target == base.size:  # what goes nowhere
            continue
        spelled = (aligned.token_bytes[token] or b"" for token in tokens)
        beyond = [len(one) for one in spelled if one and one != base.token_bytes[target]]
        if beyond:
            longest[target] = max(beyond)
    return longest
