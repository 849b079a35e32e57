"""The map φ that carries the guide's distribution to the base's vocabulary.

A guide token goes to the base token with the same bytes, else to the first token of the base's
own tokenization of those bytes. Masses that go to one token add up, so the mass that is not on
control tokens is conserved exactly. STOP is matched by role: one class on each side, one event in
the blend.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from ..backend.mlx import mx
from ..blend.formulas import total
from .begun_tokens import BegunTokens
from .first_tokens import first_tokens
from .vocabulary import Vocabulary

ProjectionRule = Literal["prefix", "shared"]


class Carried(NamedTuple):
    """A guide's distribution in the base's vocabulary."""

    probs: mx.array  # [..., base.size]
    exact_mass: mx.array  # [...]
    prefix_mass: mx.array  # [...]


class Projection:
    """φ from the vocabulary of ``aligned`` to that of ``base``.

    Args:
        base, aligned: the two vocabularies.
        rule: ``prefix`` as in the module's docstring; ``shared`` keeps only tokens that both
            have and renormalises (the paper's variant).
        table: what :func:`phi` gives for them, if it is known already.

    Raises:
        ValueError: an unknown rule.
    """

    def __init__(
        self,
        base: Vocabulary,
        aligned: Vocabulary,
        rule: ProjectionRule = "prefix",
        table: list[int] | None = None,
    ) -> None:
        if rule not in get_args(ProjectionRule):
            raise ValueError(f"projection must be prefix or shared, not {rule!r}")
        self.rule = rule
        self.base = base
        self.aligned = aligned
        self.identity = same_vocabulary(base, aligned)
        self.table = phi(base, aligned) if table is None else table
        exact = [
            target < base.size
            and (token == aligned.stop or base.token_bytes[target] == aligned.token_bytes[token])
            for token, target in enumerate(self.table)
        ]
        self._target = mx.array(self.table, dtype=mx.int32)
        self._exact = mx.array(exact, dtype=mx.bool_)
        self._known = self._target < base.size
        sources, rest = _inverse(self.table, exact, base.size)
        self._source = mx.array(sources, dtype=mx.int32)
        self._rest = mx.array(rest, dtype=mx.int32)

    def carry(self, probs: mx.array) -> Carried:
        """Carry ``[..., aligned.size]`` (STOP pooled) over to the base's vocabulary.

        A base token to which a single guide token goes gets its mass unchanged: with one vocabulary
        for both, the result is bit-equal to the input, except for control tokens.
        """
        exact = mx.where(self._exact, probs, 0.0)
        exact_mass = total(exact)
        if self.rule == "shared":
            probs = exact / exact_mass[..., None]
            prefix_mass = mx.zeros(exact_mass.shape)
        else:
            prefix_mass = total(mx.where(self._known & ~self._exact, probs, 0.0))
        return Carried(self._move(probs), exact_mass, prefix_mass)

    def carry_to(self, probs: mx.array, tokens: Sequence[int]) -> mx.array:
        """Return ``carry(probs).probs`` at one token a row, ``[n]``, without all the others.

        Args:
            probs: ``[n, aligned.size]``.
            tokens: ``n`` ids of the base.
        """
        sources = [self.sources.get(token, []) for token in tokens]
        widest = max(1, *map(len, sources))
        nothing = self.aligned.size
        rows = [[*found, *[nothing] * (widest - len(found))] for found in sources]
        padded = mx.pad(probs, [(0, 0), (0, 1)])
        mass = mx.take_along_axis(padded, mx.array(rows, dtype=mx.int32), axis=-1).sum(axis=-1)
        return mass / total(mx.where(self._exact, probs, 0.0)) if self.rule == "shared" else mass

    @cached_property
    def sources(self) -> dict[int, list[int]]:
        """The guide tokens that go to each base token."""
        found: dict[int, list[int]] = {}
        exact: Any = self._exact.tolist()
        for token, target in enumerate(self.table):
            if self.rule == "prefix" or exact[token]:
                found.setdefault(target, []).append(token)
        return found

    @cached_property
    def begun_tokens(self) -> Any:
        """The :class:`.begun_tokens.BegunTokens` of this map, made once; not a public name."""
        return BegunTokens(self.base, self.aligned, self.sources)

    def _move(self, probs: mx.array) -> mx.array:
        # A gather is ten times as fast as a scatter-add, which is used for the few others only.
        leading = [1] * (probs.ndim - 1)
        nothing = mx.zeros((*probs.shape[:-1], 1))
        padded = mx.concatenate([probs, nothing], axis=-1)
        moved = mx.take_along_axis(padded, self._source.reshape(*leading, -1), axis=-1)
        if not self._rest.size:
            return moved
        return moved.at[..., self._target[self._rest]].add(probs[..., self._rest])

    def counterpart(self, token: mx.array) -> mx.array:
        """Return φ of guide ids ``[...]``; ``base.size`` where a token has no counterpart."""
        return self._target[token]


def _inverse(table: list[int], exact: list[bool], size: int) -> tuple[list[int], list[int]]:
    """Return for each base token the guide token that maps to it exactly, and the other ones.

    A base token without one gets the id after the guide's last token.
    """
    sources = [len(table)] * size
    rest = []
    for token, target in enumerate(table):
        if target == size:
            continue
        if exact[token] and sources[target] == len(table):
            sources[target] = token
        else:
            rest.append(token)
    return sources, rest


def same_vocabulary(one: Vocabulary, other: Vocabulary) -> bool:
    """Return whether every id writes the same bytes in both, but for trailing control tokens."""
    size = min(one.size, other.size)
    ends = set(one.stop_ids) | set(other.stop_ids)
    tails = one.token_bytes[size:] + other.token_bytes[size:]
    return not any(tails) and all(
        a == b or token in ends
        for token, (a, b) in enumerate(
            zip(one.token_bytes[:size], other.token_bytes[:size], strict=True)
        )
    )


def phi(base: Vocabulary, aligned: Vocabulary) -> list[int]:
    """Return φ as a list over the guide's ids; ``base.size`` for tokens that carry no mass."""
    is_same = same_vocabulary(base, aligned)
    table = [base.size] * len(aligned.token_bytes)
    others: dict[int, bytes] = {}
    for token, written in enumerate(aligned.token_bytes):
        if token == aligned.stop:
            table[token] = base.stop
        elif is_same and token < base.size and base.token_bytes[token] == written:
            table[token] = token if written else base.size
        elif written:
            others[token] = written
    first = first_tokens(base, list(others.values()))
    for token, target in zip(others, first, strict=True):
        table[token] = target
    return table
