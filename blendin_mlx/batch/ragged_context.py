"""One model and several sequences that it reads in the same passes, each of its own length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..answer_statistics import ModelUse
from ..backend.mlx import is_cpu, mx
from ..model import LanguageModel
from ..reading.context import HEAD_ROWS, Progress
from ..tokens.answer_text import common_prefix
from ..tokens.embeddings import check_ids
from .ragged_cache import Place, RaggedKVCache

TRIAL = ((0, 1, 2), (2, 1))  # what is read to see whether a network takes rows
TRIAL_TOLERANCE = 0.02  # of the largest logit


@dataclass
class _Row:
    tokens: list[int] = field(default_factory=list)
    passes: int = 0
    rereads: int = 0


class RaggedContext:
    """What one model has read in each of several rows.

    Rows are numbered from 0; where one leaves, the last one takes its number.

    Args:
        model: the model; see :func:`obstacle`.
        prefill_step_size: how many prompt tokens of a row are read at once.

    Example:
        >>> rows = RaggedContext(model)
        >>> rows.join(encode("The sea is")), rows.join(encode("Boats wait"))
        (0, 1)
        >>> logits = rows.after({0: encode("The sea is"), 1: encode("Boats wait for")})  # [2, V']
    """

    def __init__(self, model: LanguageModel, *, prefill_step_size: int | None = None) -> None:
        self.model = model
        self.prefill_step_size = prefill_step_size or (128 if is_cpu() else 2048)
        self._layers = [RaggedKVCache(window) for window in _windows(model) or ()]
        self._rows: list[_Row] = []  # those that left stay at the end: their beginnings may serve
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def join(self, ids: Sequence[int]) -> int:
        """Add a row that will read ``ids``, and return its number.

        What any other row has read of the same beginning is copied.
        """
        shared = [common_prefix(row.tokens, ids) for row in self._rows]
        source = max(range(len(shared)), key=shared.__getitem__, default=0)
        kept = shared[source] if shared else 0
        number, self._live = self._live, self._live + 1
        for layer in self._layers:
            layer.copy(source, number, kept)
        self._rows[number : number + 1] = [_Row(list(ids[:kept]))]
        return number

    def leave(self, row: int) -> None:
        """End a row; the last one takes its number."""
        self._live -= 1
        last = self._rows[self._live]
        if row == self._live:
            return
        for layer in self._layers:
            layer.copy(self._live, row, len(last.tokens))
        self._rows[row] = last
        self._rows[self._live] = _Row()

    def prefill(self, row: int, ids: Sequence[int], progress: Progress | None = None) -> None:
        """Read what a row has not read of ``ids``, in steps, without logits."""
        unread = self._unread(row, ids)
        for start in range(0, len(unread), self.prefill_step_size):
            part = unread[start : start + self.prefill_step_size]
            self._pass({row: part})
            mx.eval([layer.arrays for layer in self._layers])
            if progress:
                progress(start + len(part), len(unread))

    def after(self, sequences: Mapping[int, Sequence[int]]) -> mx.array:
        """Logits ``[A, V']`` after the sequence of each of some rows, in their order, lazy.

        What a row has read of its sequence is kept; all the rest is read in one pass.
        """
        unread = {}
        for row, ids in sequences.items():
            if len(rest := self._unread(row, ids)) > self.prefill_step_size:
                self.prefill(row, ids[:-1])
                rest = list(ids[-1:])
            if not rest:
                self._rows[row].tokens.pop()
                self._rows[row].rereads += 1
            unread[row] = rest or list(ids[-1:])
            self._rows[row].passes += 1
        longest = max(map(len, unread.values()))
        if longest > 1 and longest * len(unread) > HEAD_ROWS:  # the output layer is dear
            self._pass({row: ids[:-1] for row, ids in unread.items() if len(ids) > 1})
            unread = {row: ids[-1:] for row, ids in unread.items()}
        return self._pass(unread)

    def rewind(self, row: int, length: int) -> None:
        """Forget the tokens of a row from ``length`` on."""
        del self._rows[row].tokens[length:]

    def _unread(self, row: int, ids: Sequence[int]) -> list[int]:
        shared = common_prefix(self._rows[row].tokens, ids)
        self.rewind(row, shared)
        return list(ids[shared:])

    def _pass(self, unread: Mapping[int, Sequence[int]]) -> mx.array:
        """Read the next tokens of some rows; logits ``[A, V']`` after the last of each."""
        for ids in unread.values():
            check_ids(ids, self.model.rows, self.model.name)
        longest = max(map(len, unread.values()))
        place = Place(tuple(unread), tuple(len(self._rows[row].tokens) for row in unread), longest)
        for layer in self._layers:
            layer.place = place
        padded = [[*ids, *[0] * (longest - len(ids))] for ids in unread.values()]
        logits: mx.array = self.model.network(mx.array(padded), cache=self._layers)
        for row, ids in unread.items():
            self._rows[row].tokens.extend(ids)
        last = mx.array([len(ids) - 1 for ids in unread.values()])
        return mx.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]

    def tokens(self, row: int) -> list[int]:
        """What a row has read."""
        return self._rows[row].tokens

    def use(self, row: int) -> ModelUse:
        """What was done for a row since it joined."""
        return ModelUse(self._rows[row].passes, self._rows[row].rereads)


def obstacle(model: LanguageModel) -> str | None:
    """Why a model cannot be read in rows, in words; None where it can.

    Its layers must keep plain keys and values, all of them or those of a window; and a short trial
    must give what the network gives for each row alone.
    """
    if _windows(model) is None:
        return f"the cache of {model.name} cannot hold several answers"
    context = RaggedContext(model)
    for ids in TRIAL:
        context.join(ids)
    try:
        context.after({row: ids[:-1] for row, ids in enumerate(TRIAL)})
        rows = context.after(dict(enumerate(TRIAL)))
        alone = mx.stack([model.network(mx.array([ids]))[0, -1] for ids in TRIAL])
        off = mx.abs(rows - alone).max() / mx.abs(alone).max()
        agrees = off.item() < TRIAL_TOLERANCE
    except (TypeError, ValueError, AttributeError, IndexError):  # it wants another kind of cache
        agrees = False
    return None if agrees else f"the network of {model.name} cannot read several answers at once"


def _windows(model: LanguageModel) -> list[int | None] | None:
    """How far back each layer looks, None for everywhere; None where a layer keeps a state."""
    windows: list[int | None] = []
    for layer in model.make_cache():
        kind = type(layer).__name__
        if kind != "KVCache" and (kind != "RotatingKVCache" or layer.keep):
            return None
        windows.append(getattr(layer, "max_size", None))
    return windows
