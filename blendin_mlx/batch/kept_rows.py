"""What rows have read that left, kept for rows that begin alike, within a limit of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..backend.mlx import mx
from ..tokens.answer_text import common_prefix

MOST = 64  # rows at once; each is compared with every prompt
Held = list[list[mx.array]]  # of each layer, keys and values [heads, length, width]


@dataclass(frozen=True, eq=False)
class KeptRow:
    """The tokens that a row had read, and what the layers hold of them."""

    tokens: list[int]
    held: Held

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(array.nbytes for layer in self.held for array in layer)

    def beginning(self, length: int) -> Held:
        """Return what the layers hold of the first tokens."""
        return [[array[:, :length] for array in layer] for layer in self.held]


class KeptRows:
    """Rows that have left, the last used one at the end.

    Args:
        limit: bytes that all of them may take.

    Example:
        >>> kept = KeptRows(limit=2**28)
        >>> kept.add(tokens, tokens_bytes, lambda: [layer.row(0, len(tokens)) for layer in layers])
        >>> length, row = kept.longest(ids)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rows: list[KeptRow] = []

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return sum(row.nbytes for row in self._rows)

    def longest(self, ids: Sequence[int]) -> tuple[int, KeptRow | None]:
        """Return the row that shares most of its beginning with ``ids``, and how many tokens."""
        shared = [common_prefix(row.tokens, ids) for row in self._rows]
        length = max(shared, default=0)
        if length == 0:
            return 0, None
        best = self._rows[shared.index(length)]
        self._use(best)
        return length, best

    def add(self, tokens: Sequence[int], nbytes: int, held: Callable[[], Held]) -> None:
        """Keep a row, unless it is too large; forget those that were not used for longest.

        Args:
            tokens: what it has read.
            nbytes: what that takes.
            held: returns what the layers hold of it.
        """
        length, known = self.longest(tokens)
        if not tokens or length == len(tokens) or nbytes > self.limit:
            return
        if known is not None and length == len(known.tokens):  # the new one goes on from there
            self._rows.remove(known)
        while len(self._rows) >= MOST or self.nbytes + nbytes > self.limit:
            self._rows.pop(0)
        self._rows.append(KeptRow(list(tokens), held()))

    def clear(self) -> None:
        """Forget all of them."""
        self._rows.clear()

    def _use(self, row: KeptRow) -> None:
        self._rows.remove(row)
        self._rows.append(row)
