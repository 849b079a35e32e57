"""One model that reads several sequences in the same passes, each of its own length."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend.mlx import is_cpu, mx
from ..model import LanguageModel
from ..reading.context import HEAD_ROWS
from ..reading.reader import Progress, RewindsBy
from ..tokens.answer_text import common_prefix
from ..tokens.embeddings import check_ids
from .kept_rows import Held, KeptRows
from .ragged_cache import Place, RaggedKVCache

TRIAL = ((0, 1, 2), (2, 1))  # what is read to see whether a network takes rows
TRIAL_TOLERANCE = 0.02  # of the largest logit


class RaggedRow:
    """One of the sequences; it reads as a context does, alone or in passes with others.

    Attributes:
        number: its place among the rows; where one leaves, the last one takes its place.
    """

    def __init__(self, rows: RaggedContext, number: int) -> None:
        self.rows = rows
        self.number = number
        self.model = rows.model
        self.tokens: list[int] = []
        self.passes = 0
        self.rereads = 0

    @property
    def rewinds_by(self) -> RewindsBy:
        """How it goes back: by forgetting its last tokens, always."""
        return "trim"

    def can_trim(self, length: int = 0) -> bool:
        """Whether tokens can be forgotten without reading any again: always."""
        return True

    def knows(self, tokens: Sequence[int]) -> bool:
        """Whether logits are at hand without a pass: never."""
        return False

    def begin(self, token: mx.array) -> None:
        """Start a pass early: never, since it is shared with other rows."""

    def expect(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> None:
        """Do nothing: rows are read on this machine."""

    def after(self, tokens: Sequence[int], draft: Sequence[int] = ()) -> mx.array:
        """Logits ``[1, V']`` after ``tokens``, in a pass of this row alone."""
        return self.rows.after([(self, tokens)])

    def move_to(self, ids: Sequence[int]) -> list[int]:
        """Keep the prefix that ``ids`` shares with what was read; return what is left to read.

        A row that holds nothing begins with what another one has read of it, or had when it left.
        """
        del self.tokens[common_prefix(self.tokens, ids) :]
        if not self.tokens:
            self.tokens = self.rows.shared_beginning(self, ids)
        return list(ids[len(self.tokens) :])

    def prefill(self, ids: Sequence[int], progress: Progress | None = None) -> None:
        """Read ``ids`` in steps, without logits, telling ``progress(done, total)``."""
        self.rows.prefill(self, ids, progress)

    def leave(self, keep: bool = True) -> None:
        """End; the last row takes this one's place. What it has read may be kept for others."""
        self.rows.remove(self, keep)


class RaggedContext:
    """What one model has read in each of several rows.

    Args:
        model: the model; see :meth:`obstacle`.
        prefill_step_size: how many tokens of a row are read at once without logits.
        kept_bytes: what rows that have left may leave behind.

    Attributes:
        kept: what they have left.

    Example:
        >>> rows = RaggedContext(model)
        >>> one, other = rows.join(), rows.join()
        >>> logits = rows.after([(one, encode("The sea is")), (other, encode("Boats"))])  # [2, V']
    """

    def __init__(
        self, model: LanguageModel, *, prefill_step_size: int | None = None, kept_bytes: int = 0
    ) -> None:
        self.model = model
        self.prefill_step_size = prefill_step_size or (128 if is_cpu() else 2048)
        self.rows: list[RaggedRow] = []
        windows = None if model.elsewhere else _windows(model)
        self._keeps_states = windows is None
        self._layers = [RaggedKVCache(window) for window in windows or ()]
        self.kept = KeptRows(kept_bytes)

    def join(self) -> RaggedRow:
        """Add a row that has read nothing yet."""
        self.rows.append(RaggedRow(self, len(self.rows)))
        return self.rows[-1]

    def remove(self, row: RaggedRow, keep: bool = True) -> None:
        """Remove a row; the last one takes its place. See :meth:`RaggedRow.leave`."""
        if keep:
            nbytes = len(row.tokens) * self.bytes_per_token
            self.kept.add(row.tokens, nbytes, lambda: self._held(row, len(row.tokens)))
        last = self.rows.pop()
        if row is not last:
            self._begin(row, self._held(last, len(last.tokens)))
            self.rows[row.number] = last
            last.number = row.number
        elif not self.rows:
            self.clear()

    def clear(self) -> None:
        """Remove all rows as they are, and keep nothing of them."""
        self.rows.clear()
        for layer in self._layers:
            layer.clear()

    def shared_beginning(self, row: RaggedRow, ids: Sequence[int]) -> list[int]:
        """Copy into an empty row what another has read of ``ids``; return those tokens."""
        other = max(self.rows, key=lambda one: common_prefix(one.tokens, ids))
        length = common_prefix(other.tokens, ids)
        kept_length, kept = self.kept.longest(ids)
        if kept is not None and kept_length > length:
            length = kept_length
            self._begin(row, kept.beginning(length))
        else:
            self._begin(row, self._held(other, length))
        return list(ids[:length])

    def _held(self, row: RaggedRow, length: int) -> Held:
        return [layer.row(row.number, length) if length else [] for layer in self._layers]

    def _begin(self, row: RaggedRow, held: Held) -> None:
        for layer, parts in zip(self._layers, held, strict=True):
            layer.begin(row.number, parts)

    def obstacle(self) -> str | None:
        """Return why this model cannot be read in rows, in words; None where it can.

        The layers must keep plain keys and values, all of them or those of a window; and in a short
        trial the network must say of each row what it says of that row alone.
        """
        if self.model.elsewhere is not None:
            return f"the network of {self.model.name} is on another machine"
        if self._keeps_states:
            return f"the cache of {self.model.name} cannot hold several answers"
        trial = [(self.join(), ids) for ids in TRIAL]
        try:
            self.after([(row, ids[:-1]) for row, ids in trial])
            rows = self.after(trial)
            alone = mx.stack([self.model.network(mx.array([ids]))[0, -1] for ids in TRIAL])
            off = mx.abs(rows - alone).max() / mx.abs(alone).max()
            agrees = bool((off < TRIAL_TOLERANCE).item())
        except (TypeError, ValueError, AttributeError, IndexError):  # it wants another cache
            agrees = False
        for row, _ in trial:
            row.leave(keep=False)
        if agrees:
            return None
        return f"the network of {self.model.name} cannot read several answers at once"

    @property
    def bytes_per_token(self) -> int:
        """What a token of a row takes; 0 before anything was read."""
        return sum(layer.bytes_per_token for layer in self._layers)

    def prefill(self, row: RaggedRow, ids: Sequence[int], progress: Progress | None = None) -> None:
        """Let a row read ``ids`` in steps, without logits."""
        for start in range(0, len(ids), self.prefill_step_size):
            part = ids[start : start + self.prefill_step_size]
            self._pass([(row, part)])
            mx.eval([layer.arrays for layer in self._layers])
            if progress:
                progress(start + len(part), len(ids))

    def after(self, sequences: Sequence[tuple[RaggedRow, Sequence[int]]]) -> mx.array:
        """Logits ``[A, V']`` after the sequence of each of some rows, lazy.

        What a row has read of its sequence is kept; all the rest is read in one pass.
        """
        unread = [(row, self._unread(row, ids)) for row, ids in sequences]
        most = max(len(ids) for _, ids in unread)
        if most > 1 and most * len(unread) > HEAD_ROWS:  # the output layer is dear
            self._pass([(row, ids[:-1]) for row, ids in unread if len(ids) > 1])
            unread = [(row, ids[-1:]) for row, ids in unread]
        return self._pass(unread)

    def _unread(self, row: RaggedRow, ids: Sequence[int]) -> list[int]:
        """Return the tokens to read for the logits after ``ids``, at least one."""
        rest = row.move_to(ids)
        if not rest:
            row.tokens.pop()
            row.rereads += 1
        elif len(rest) > self.prefill_step_size:
            row.prefill(rest[:-1])
        row.passes += 1
        return list(ids[len(row.tokens) :])

    def _pass(self, unread: Sequence[tuple[RaggedRow, Sequence[int]]]) -> mx.array:
        """Read the next tokens of some rows; logits ``[A, V']`` after the last of each."""
        for _, ids in unread:
            check_ids(ids, self.model.rows, self.model.name)
        most = max(len(ids) for _, ids in unread)
        place = Place(
            [row.number for row, _ in unread], [len(row.tokens) for row, _ in unread], most
        )
        for layer in self._layers:
            layer.place = place
        padded = mx.array([[*ids, *[0] * (most - len(ids))] for _, ids in unread])
        logits: mx.array = self.model.network(padded, cache=self._layers)
        for row, ids in unread:
            row.tokens.extend(ids)
        last = mx.array([len(ids) - 1 for _, ids in unread])
        return mx.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]


def _windows(model: LanguageModel) -> list[int | None] | None:
    """How far back each layer looks, None for everywhere; None where a layer keeps a state."""
    windows: list[int | None] = []
    for layer in model.make_cache():
        kind = type(layer).__name__
        if kind != "KVCache" and (kind != "RotatingKVCache" or layer.keep):
            return None
        windows.append(getattr(layer, "max_size", None))
    return windows
