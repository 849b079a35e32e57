"""A context whose network and cache are on another machine."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..backend.mlx import mx
from ..errors import MachineError
from ..model import LanguageModel
from ..reading.context import HEAD_ROWS, Context
from ..reading.reader import Progress, RewindsBy
from ..roles import Role
from ..tokens.embeddings import check_ids
from .leader import Leader


class RemoteContext(Context):
    """Tokens and logits are here, the cache is there; each pass is one exchange.

    A rewind costs none: the next pass says how many tokens to keep. The other end has a
    :class:`.context.Context` that does the same, so its passes have the same shapes.

    Args:
        model: the model as it is known here: tokenizer, limits, number of logits.
        place: the machine.
        kv_bits: see :class:`.context.Context`.
        prefill_step_size: see :class:`.context.Context`.
    """

    def __init__(
        self,
        model: LanguageModel,
        place: RemoteModel,
        *,
        kv_bits: int | None = None,
        prefill_step_size: int | None = None,
    ) -> None:
        super().__init__(model, kv_bits=kv_bits, prefill_step_size=prefill_step_size)
        self._place = place
        self._rereads_there = 0
        leader = place.leader
        self._number = leader.open(place.role, kv_bits, self.prefill_step_size)
        weakref.finalize(self, leader.drop, self._number).atexit = False

    def _reset(self) -> None:
        self._cache = []
        self._cached = 0  # how many of ``tokens`` the other end has
        self._snapshots = deque()
        self._rows = {}
        self._ahead = None

    def begin(self, token: mx.array) -> None:
        """Do nothing: what the token is must be known to send it."""

    def expect(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> None:
        """Let the other machine run the pass that :meth:`after` would need, and keep its logits.

        If another pass is asked for, that one is undone there. So it is left out where it could
        not be undone without a trace: where it would replace tokens, be the first one (after which
        a cache is quantized), or the cache could not forget it; and where it is a long one, which
        a question would have to wait for.
        """
        held = len(self.tokens)
        unread = [*tokens[self._cached :], *draft]
        continues = 0 < held < len(tokens) and list(tokens[:held]) == self.tokens
        if continues and len(unread) <= HEAD_ROWS and self.can_trim(self._cached + len(unread)):
            self._place.leader.expect(self._number, self._cached, unread, len(draft) + 1)

    def _run(self, unread: Sequence[int], rows: int) -> mx.array:
        check_ids(unread, self.model.rows, self.model.name)
        logits, rereads = self._place.leader.read(self._number, self._cached, unread, rows)
        self.rereads += rereads - self._rereads_there
        self._rereads_there = rereads
        self._cached += len(unread)
        return logits

    def _fill(self, ids: Sequence[int], progress: Progress | None) -> None:
        if not ids and self.rewinds_by == "snapshot":  # the other end may have gone back further
            self._run(ids, 0)
        super()._fill(ids, progress)

    def _fill_step(self, ids: Sequence[int]) -> None:
        self._run(ids, 0)

    def _rewind_cache(self, length: int) -> int:
        return length

    def can_trim(self, length: int = 0) -> bool:
        """Return whether tokens can be forgotten without rereading any, now and at ``length``."""
        return max(length, self._cached) < self._place.trims_below

    @property
    def rewinds_by(self) -> RewindsBy:
        """How the cache there goes back, see :class:`.context.Context`."""
        return "trim" if self._place.trims_below == float("inf") else "snapshot"

    def kept(self) -> tuple[list[int], list[Any]]:
        """Refuse: the cache is not here.

        Raises:
            MachineError: always.
        """
        raise MachineError(f"the cache of {self.model.name} is on {self._place.name}")


@dataclass(frozen=True)
class RemoteModel:
    """The place of a model whose network runs on another machine.

    Args:
        leader: asks that machine.
        role: the model's role there.
        trims_below: the length from which on its cache can forget no token.
    """

    leader: Leader
    role: Role
    trims_below: float

    @property
    def name(self) -> str:
        """The machine, in words."""
        return self.leader.name

    @property
    def reads_ahead(self) -> bool:
        """Whether it reads before it is asked: as long as its cache can forget that again."""
        return self.trims_below > 0

    def context(
        self, model: LanguageModel, kv_bits: int | None, prefill_step_size: int | None
    ) -> RemoteContext:
        """Return an empty context there.

        Args:
            model: the model as it is known here.
            kv_bits: see :class:`.context.Context`.
            prefill_step_size: see :class:`.context.Context`.
        """
        return RemoteContext(model, self, kv_bits=kv_bits, prefill_step_size=prefill_step_size)

    def fingerprint(self) -> str:
        """Return the fingerprint of the model there."""
        return self.leader.fingerprint(self.role)
