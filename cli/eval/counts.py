"""How often the guide was asked, kept beside the harness's own cache of responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.model import CacheHook

_KIND = "interventions"  # beside the kinds of requests that the harness knows


@dataclass(frozen=True)
class Count:
    """Tokens that were scored or written, and at how many of them the guide was asked."""

    tokens: int = 0
    interventions: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return both numbers and the intervention rate, None of nothing."""
        rate = self.interventions / self.tokens if self.tokens else None
        return {
            "tokens": self.tokens,
            "interventions": self.interventions,
            "intervention_rate": rate,
        }


def total(counts: Iterable[Count]) -> Count:
    """Return the sum of counts."""
    tokens, interventions = 0, 0
    for one in counts:
        tokens, interventions = tokens + one.tokens, interventions + one.interventions
    return Count(tokens, interventions)


class Counts:
    """The counts of requests, of those too that were answered in an earlier run."""

    def __init__(self) -> None:
        self._known: dict[str, Count] = {}

    def add(self, hook: CacheHook, request: Sequence[Any], count: Count) -> None:
        """Keep the count of a request, in the harness's cache too if there is one."""
        self._known[_key(request)] = count
        hook.add_partial(_KIND, request, (count.tokens, count.interventions))

    def of(self, hook: CacheHook, request: Sequence[Any]) -> Count:
        """Return the count of a request; nothing if it was answered by another version."""
        key = _key(request)
        if key not in self._known:
            kept = hook.dbdict.get(key) if hook.dbdict is not None else None
            self._known[key] = Count(*kept) if kept else Count()
        return self._known[key]

    def total(self) -> Count:
        """Return the sum over all requests that were counted or asked for."""
        return total(self._known.values())


def _key(request: Sequence[Any]) -> str:
    from lm_eval.api.model import hash_args

    key: str = hash_args(_KIND, request)
    return key
