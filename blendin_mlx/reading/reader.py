"""What decoding needs of whatever reads for one answer: a context, or a row of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from ..backend.mlx import mx
from ..model import LanguageModel, Role

Progress = Callable[[int, int], None]
RewindsBy = Literal["trim", "snapshot"]


class Reader(Protocol):
    """One model and the tokens it has read; see :class:`.context.Context`."""

    model: LanguageModel
    tokens: list[int]
    passes: int
    rereads: int

    @property
    def rewinds_by(self) -> RewindsBy: ...

    def knows(self, tokens: Sequence[int]) -> bool: ...

    def after(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> mx.array: ...

    def begin(self, token: mx.array) -> None: ...

    def move_to(self, ids: Sequence[int]) -> list[int]: ...

    def prefill(self, ids: Sequence[int], progress: Progress | None = None) -> None: ...

    def can_trim(self, length: int = 0) -> bool: ...


class Readers(Protocol):
    """Those of the models of a pair, by role; see :class:`.prompt_cache.PromptCache`."""

    @property
    def base(self) -> Reader: ...

    @property
    def aligned(self) -> Reader: ...

    @property
    def reference(self) -> Reader | None: ...

    def contexts(self) -> Mapping[Role, Reader]: ...
