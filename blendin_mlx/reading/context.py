"""A context: one model, the tokens it has read, and its cache.

A context can be extended, rewound to an earlier length, and moved to another sequence, of which it
keeps the common prefix. If a cache cannot be rewound (a rotating one that is full, a state-space
one), the context goes back to a snapshot, or reads its tokens again; it never pretends to have
rewound. ``rereads`` counts the tokens that were read a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ..backend.mlx import is_cpu, mx
from ..model import LanguageModel
from ..tokens.answer_text import common_prefix
from ..tokens.embeddings import check_ids
from .cache_layers import always_trims, copied, holds, leaves, nbytes, quantize, trims_at
from .reader import Progress, RewindsBy

# Above this many tokens, all but the last are read without computing their logits: the output
# layer of a small model is a large part of its work.
HEAD_ROWS = 32
SNAPSHOTS = 8
_KEPT_ROWS = 32


class Context:
    """The tokens that one model has read, with its cache.

    Args:
        model: the model.
        kv_bits: quantize the cache to 4 or 8 bits; None does not. Only plain key-value caches are
            quantized, not those of sliding windows and state spaces.
        prefill_step_size: prompt tokens read per pass; the default on a CPU is small, so that an
            interrupt is noticed within a second or two.

    Example:
        >>> context = Context(model)
        >>> logits = context.read(model.vocabulary.encode("The sea is"))   # [1, V]
        >>> context.rewind(2)
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        kv_bits: int | None = None,
        prefill_step_size: int | None = None,
    ) -> None:
        if kv_bits not in (None, 4, 8):
            raise ValueError(f"kv_bits must be 4 or 8, not {kv_bits}")
        self.model = model
        self.kv_bits = kv_bits
        self.prefill_step_size = prefill_step_size or (128 if is_cpu() else 2048)
        self.tokens: list[int] = []
        self.passes = 0
        self.rereads = 0
        self._known = 0  # how many of ``tokens`` were read at least once
        self._reset()

    def _reset(self) -> None:
        self._cache = self.model.make_cache()
        self._cached = 0  # how many of ``tokens`` the cache holds
        self._snapshots: deque[tuple[int, list[Any]]] = deque(maxlen=SNAPSHOTS)
        self._rows: dict[int, mx.array] = {}  # logits [1, V'] after so many tokens, the last few
        self._ahead: tuple[mx.array, mx.array] | None = None  # a token begun early, its logits

    def read(self, ids: Sequence[int], rows: int = 1) -> mx.array:
        """Read ``ids`` in one pass; return logits ``[rows, V']`` after the last ``rows``, lazily.

        With nothing new to read, return the logits after the last token again.
        """
        self._end_early_pass()
        if not ids and rows == 1 and len(self.tokens) in self._rows:
            return self._rows[len(self.tokens)]
        if (again := rows - len(ids)) > 0:  # rows that are no longer known: read them again
            if again > len(self.tokens):
                raise ValueError(f"rows must be at most {len(self.tokens) + len(ids)}, not {rows}")
            ids = [*self.tokens[-again:], *ids]
            self.rewind(len(self.tokens) - again)
            self.rereads += again
        self.tokens.extend(ids)
        logits = self._run(self.tokens[self._cached :], rows)
        self.passes += 1
        self._keep(logits)
        return logits

    def _run(self, unread: Sequence[int], rows: int) -> mx.array:
        """Run the network over what the cache lacks; return logits after the last ``rows``."""
        if len(unread) > max(HEAD_ROWS, rows):
            self._fill(unread[:-rows], None)
            unread = unread[-rows:]
        logits: mx.array = self._forward(unread)[0, -rows:]
        return logits

    def _keep(self, logits: mx.array) -> None:
        """Remember the logits of a pass, which end after the last token."""
        first = len(self.tokens) - len(logits) + 1
        for n in range(max(0, len(logits) - _KEPT_ROWS), len(logits)):
            self._rows[first + n] = logits[n : n + 1]
        for length in sorted(self._rows)[:-_KEPT_ROWS]:
            del self._rows[length]

    def knows(self, tokens: Sequence[int]) -> bool:
        """Return whether the logits after ``tokens`` are known without a pass."""
        self._end_early_pass(tokens)
        return len(tokens) in self._rows and self.tokens[: len(tokens)] == tokens

    def after(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> mx.array:
        """Return logits ``[1, V']`` after ``tokens``, lazily; known ones, or from one pass.

        Args:
            tokens: the whole sequence to have read; the common prefix is kept.
            draft: tokens that may follow. The pass reads them too, and the logits after each are
                kept: if they follow, they need no further pass.
        """
        if not self.knows(tokens):
            self.read([*self.move_to(tokens), *draft], rows=len(draft) + 1)
        return self._rows[len(tokens)]

    def expect(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> None:
        """Do nothing: on this machine, a pass ahead would take the time that it saves."""

    def begin(self, token: mx.array) -> None:
        """Start the pass over a token ``[1]`` before its value is read back, without waiting.

        On a GPU this saves the wait between two passes. The pass counts if this token follows;
        otherwise it is undone.
        """
        self._end_early_pass()
        if self._cached < len(self.tokens) or not self.can_trim(len(self.tokens) + 1):
            return
        try:
            logits = self.model.network(token.reshape(1, 1), cache=self._cache)[0]
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
        except BaseException:
            self._reset()
            raise
        self._ahead = token, logits

    def _end_early_pass(self, tokens: Sequence[int] = ()) -> None:
        """Keep the pass begun early if its token follows in ``tokens``, else undo it."""
        if self._ahead is None:
            return
        (token, logits), self._ahead = self._ahead, None
        follows: list[int] = [*self.tokens, *token.tolist()]  # type: ignore[misc]
        if list(tokens[: len(follows)]) != follows:
            for layer in leaves(self._cache):
                layer.trim(1)
            return
        self.passes += 1
        self.tokens = follows
        self._cached += 1
        self._known = max(self._known, self._cached)
        self._keep(logits)

    def prefill(self, ids: Sequence[int], progress: Progress | None = None) -> None:
        """Read ``ids`` in steps, without logits; call ``progress(done, total)`` after each."""
        self._end_early_pass()
        self.tokens.extend(ids)
        self._fill(self.tokens[self._cached :], progress)

    def _fill(self, ids: Sequence[int], progress: Progress | None) -> None:
        for start in range(0, len(ids), self.prefill_step_size):
            self._fill_step(ids[start : start + self.prefill_step_size])
            if progress:
                progress(min(start + self.prefill_step_size, len(ids)), len(ids))

    def _fill_step(self, ids: Sequence[int]) -> None:
        self._forward(ids)
        mx.eval([layer.state for layer in self._cache])

    def _forward(self, ids: Sequence[int]) -> mx.array:
        check_ids(ids, self.model.rows, self.model.name)
        try:
            self._snapshot()
            logits: mx.array = self.model.network(mx.array([ids]), cache=self._cache)
            if self.kv_bits is not None:
                quantize(self._cache, self.kv_bits, self.model.name)
            before, self._cached = self._cached, self._cached + len(ids)
        except BaseException:  # an interrupt may leave some layers a pass ahead of others
            self._reset()
            raise
        self.rereads += max(0, min(self._known, self._cached) - before)
        self._known = max(self._known, self._cached)
        return logits

    def rewind(self, length: int) -> None:
        """Forget all tokens from ``length`` on."""
        self._end_early_pass()
        if not 0 <= length <= len(self.tokens):
            raise ValueError(f"length must be between 0 and {len(self.tokens)}, not {length}")
        if length == len(self.tokens):
            return
        del self.tokens[length:]
        self._known = min(self._known, length)
        self._rows = {kept: row for kept, row in self._rows.items() if kept <= length}
        if self._cached <= length:
            return
        self._cached = self._rewind_cache(length)

    def mark(self) -> tuple[int, list[Any]]:
        """Return where this context is, for :meth:`undo`: its length, and its snapshots."""
        return len(self.tokens), list(self._snapshots)

    def undo(self, mark: tuple[int, list[Any]]) -> None:
        """Forget what was read since, and that it was; the cache must still be able to forget."""
        length, snapshots = mark
        self.rewind(length)
        self._snapshots = deque(snapshots, SNAPSHOTS)

    def move_to(self, ids: Sequence[int]) -> list[int]:
        """Keep the common prefix of ``ids`` and the tokens read; return what is left to read."""
        shared = common_prefix(self.tokens, ids)
        self.rewind(shared)
        return list(ids[shared:])

    def _rewind_cache(self, length: int) -> int:
        """Rewind the cache to ``length`` tokens or, if that is impossible, to fewer."""
        while self._snapshots and self._snapshots[-1][0] > length:
            self._snapshots.pop()
        layers = leaves(self._cache)
        if self.can_trim():
            for layer in layers:
                layer.trim(self._cached - length)
            return length
        if not self._snapshots:
            self._reset()
            return 0
        kept, states = self._snapshots.pop()  # the next pass takes a new one
        for layer, state in zip(layers, states, strict=True):
            if always_trims(layer):
                layer.trim(self._cached - kept)
            else:
                layer.state = state
        return kept

    def _snapshot(self) -> None:
        """Copy the state of layers that may not be rewindable, before this pass."""
        layers = leaves(self._cache)
        if self._cached and not all(map(always_trims, layers)):
            states = [None if always_trims(layer) else copied(layer.state) for layer in layers]
            self._snapshots.append((self._cached, states))

    def can_trim(self, length: int = 0) -> bool:
        """Return whether tokens can be forgotten without rereading any, now and at ``length``."""
        return all(trims_at(layer, length) for layer in leaves(self._cache))

    @property
    def rewinds_by(self) -> RewindsBy:
        """How the cache goes back: ``trim`` forgets its last tokens, ``snapshot`` restores a copy.

        From a copy, the tokens up to the target length are read again.
        """
        return "trim" if all(map(always_trims, leaves(self._cache))) else "snapshot"

    def kept(self) -> tuple[list[int], list[Any]]:
        """Return the tokens in the cache and the state of every layer, for :meth:`restore`."""
        self._end_early_pass()
        return self.tokens[: self._cached], [layer.state for layer in leaves(self._cache)]

    def restore(self, tokens: Sequence[int], states: Sequence[Any]) -> None:
        """Replace tokens and cache with those that :meth:`kept` returned for an equivalent context.

        Its layers must have the same types: a quantized cache must have read something before.

        Raises:
            ValueError: a layer holds another number of tokens.
        """
        self._end_early_pass()
        self._rows = {}
        self.tokens = list(tokens)
        self._cached = self._known = len(self.tokens)
        self._snapshots.clear()
        for layer, state in zip(leaves(self._cache), states, strict=True):
            layer.state = state
            if not holds(layer, len(tokens)):
                raise ValueError(f"a layer does not keep {len(tokens)} tokens")
        self.passes = self.rereads = 0

    def drop_logits(self) -> None:
        """Forget the logits at hand, as where the context is kept for later: a vocabulary each."""
        self._end_early_pass()
        self._rows.clear()

    @property
    def nbytes(self) -> int:
        """Bytes held by the cache."""
        return sum(layer.nbytes for layer in self._cache if not layer.empty())

    @property
    def held_bytes(self) -> int:
        """Bytes held by the cache and the snapshots of it."""
        return int(self.nbytes + sum(nbytes(states) for _, states in self._snapshots))
