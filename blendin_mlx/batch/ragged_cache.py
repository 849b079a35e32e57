"""Keys and values of rows that have different lengths, for one layer of a model.

Every row starts at position 0 and ends at its own length. A pass writes the new positions of each
row where that row ends, and the mask hides what lies beyond. So forgetting a row's last tokens is
a smaller length and nothing else, and a pass that was cut short has spoiled nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..backend.mlx import mx

STEP = 256  # positions by which the arrays grow


@dataclass(frozen=True)
class Place:
    """Where a pass reads and writes.

    Attributes:
        rows: the rows that take part.
        starts: how many positions each of them holds.
        count: how many new positions each of them gets; a row with fewer new tokens gets padding,
            which its own length does not include afterwards.
    """

    rows: list[int]
    starts: list[int]
    count: int

    @property
    def reach(self) -> int:
        """Positions of the longest row after the pass."""
        return max(self.starts) + self.count

    @property
    def is_beginning(self) -> bool:
        """Whether these are the first rows, in order."""
        return self.rows == list(range(len(self.rows)))

    @cached_property
    def row_ids(self) -> mx.array:
        """``[A, 1]``."""
        return mx.array(self.rows)[:, None]

    @cached_property
    def offsets(self) -> mx.array:
        """``[A]``, the starts."""
        return mx.array(self.starts)

    @cached_property
    def positions(self) -> mx.array:
        """``[A, count]``, where the new positions go."""
        return self.offsets[:, None] + mx.arange(self.count)


class RaggedKVCache:
    """The cache of one layer; it stands in mlx-lm's models where a ``KVCache`` would.

    Args:
        window: how far back the layer looks, None for everywhere. Nothing is dropped: the mask
            hides what lies farther back, so a row can be rewound to any length.

    Attributes:
        place: where the next pass reads and writes; set before each.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.keys: mx.array | None = None  # [rows, heads, capacity, width]
        self.values: mx.array | None = None
        self.place = Place([0], [0], 1)

    @property
    def offset(self) -> mx.array:
        """``[A]``, the position of each row's next token."""
        return self.place.offsets

    def make_mask(
        self, count: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array:
        """Booleans ``[A, 1, count, reach]``: what each new position looks at."""
        window = window_size or self.window
        queries = self.place.positions[:, None, :, None]
        keys = mx.arange(self.place.reach)
        seen = keys <= queries
        return seen if window is None else seen & (keys > queries - window)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Write ``[A, heads, count, width]``; return what these rows hold, up to ``reach``."""
        self.keys = self._written(self.keys, keys)
        self.values = self._written(self.values, values)
        return self._read(self.keys), self._read(self.values)

    def _written(self, held: mx.array | None, new: mx.array) -> mx.array:
        held = _grown(
            _empty(new) if held is None else held, max(self.place.rows) + 1, self.place.reach
        )
        held[self.place.row_ids, :, self.place.positions] = new.swapaxes(1, 2)
        return held

    def _read(self, held: mx.array) -> mx.array:
        held = held[:, :, : self.place.reach]
        if self.place.is_beginning:  # a view; others are copied
            return held[: len(self.place.rows)]
        return mx.take(held, self.place.row_ids[:, 0], axis=0)

    def row(self, number: int, length: int) -> list[mx.array]:
        """Return the keys and values ``[heads, length, width]`` of a row's first positions."""
        parts = [mx.contiguous(held[number, :, :length]) for held in self.arrays]
        mx.eval(parts)  # else the whole array would be copied to keep it
        return parts

    def begin(self, number: int, parts: Sequence[mx.array] = ()) -> None:
        """Let a row begin with what :meth:`row` returned, and hold nothing else.

        What an old row left is cleared: a mask hides numbers, but not what is no number.
        """
        if self.keys is not None and self.values is not None:
            keys, values = parts or (None, None)
            self.keys = _begun(self.keys, number, keys)
            self.values = _begun(self.values, number, values)

    def clear(self) -> None:
        """Hold nothing, and give the memory back."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = _empty(self.keys), _empty(self.values)

    @property
    def bytes_per_token(self) -> int:
        """What a token of a row takes; 0 before anything was read."""
        return sum(held.shape[1] * held.shape[3] * held.itemsize for held in self.arrays)

    @property
    def arrays(self) -> list[mx.array]:
        """Keys and values, to evaluate."""
        return [held for held in (self.keys, self.values) if held is not None]


def _grown(held: mx.array, rows: int, positions: int) -> mx.array:
    """``[rows, heads, positions, width]`` at least, zeros where it was smaller."""
    more = max(0, rows - held.shape[0])
    room = -(-max(0, positions - held.shape[2]) // STEP) * STEP
    return mx.pad(held, [(0, more), (0, 0), (0, room), (0, 0)]) if more or room else held


def _empty(like: mx.array) -> mx.array:
    """``[0, heads, 0, width]``."""
    return mx.zeros((0, like.shape[1], 0, like.shape[3]), dtype=like.dtype)


def _begun(held: mx.array, number: int, part: mx.array | None) -> mx.array:
    length = 0 if part is None else part.shape[1]
    held = _grown(held, number + 1, length)
    if part is not None:
        held[number, :, :length] = part
    if length < held.shape[2]:
        held[number, :, length:] = 0
    return held
