"""Random numbers of one answer, whatever other answers draw in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..backend.mlx import mx

MOST = 2**31 - 1  # of a seed that is drawn


class RandomStream:
    """The random state that samplers find while an answer decides.

    An answer with a seed draws what it draws alone after ``mx.random.seed(seed)``.

    Args:
        seed: None takes one from mlx's own state.
    """

    def __init__(self, seed: int | None) -> None:
        drawn: Any = mx.random.randint(0, MOST).item() if seed is None else seed
        self._key = mx.random.key(drawn)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Context manager: mlx's random state is this one's; mlx's own is lost."""
        words: Any = self._key.tolist()
        high, low = words
        mx.random.seed(high << 32 | low)
        try:
            yield
        finally:
            state: Any = mx.random.state
            self._key = state[0]
