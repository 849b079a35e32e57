"""What decoding needs of the reader of one answer: a context, or a row of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from ..backend.mlx import mx
from ..model import LanguageModel
from ..roles import Role

Progress = Callable[[int, int], None]
RewindsBy = Literal["trim", "snapshot"]


class Reader(Protocol):
    """One model and the tokens it has read; :class:`.context.Context` describes the methods."""

    model: LanguageModel
    tokens: list[int]
    passes: int
    rereads: int

    @property
    def rewinds_by(self) -> RewindsBy:
        """How the cache goes back."""

    def knows(self, tokens: Sequence[int]) -> bool:
        """Return whether the logits after ``tokens`` are at hand, without a pass."""

    def after(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> mx.array:
        """Return logits ``[1, V']`` after ``tokens``, lazily."""

    def begin(self, token: mx.array) -> None:
        """Start the pass over a token before its value is known, where that is possible."""

    def expect(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> None:
        """Let another machine do early what :meth:`after` may be asked for, if it is there."""

    def move_to(self, ids: Sequence[int]) -> list[int]:
        """Keep the prefix that ``ids`` shares with what was read; return the rest."""

    def prefill(self, ids: Sequence[int], progress: Progress | None = None) -> None:
        """Read ``ids`` in steps, without logits."""

    def can_trim(self, length: int = 0) -> bool:
        """Return whether tokens can be forgotten without a second reading of others."""


class Readers(Protocol):
    """The readers of a pair's models, by role; see :class:`.prompt_cache.PromptCache`."""

    @property
    def base(self) -> Reader:
        """The base's."""

    @property
    def aligned(self) -> Reader:
        """The aligned model's."""

    @property
    def reference(self) -> Reader | None:
        """The reference model's, if there is one."""

    @property
    def others(self) -> Sequence[Reader]:
        """Those of further guides."""

    def contexts(self) -> Mapping[Role, Reader]:
        """Return the readers by role."""
