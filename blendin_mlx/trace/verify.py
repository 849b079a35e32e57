"""Verification of a recorded run: each step is computed again and compared.

A trace of the same models, by any program, is confirmed if every recorded value is within
``tolerance`` and every choice is the one that the method makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import TraceError
from ..model import Pair
from .records import RULES, TraceRecord
from .replay import QUANTIZED_TOLERANCE, Replay

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Mismatch:
    """The first recorded value that differs from the computed one."""

    index: int
    field: str
    recorded: Any
    computed: Any

    def __str__(self) -> str:
        return (
            f"step {self.index}: {self.field} is recorded as {self.recorded!r} "
            f"and follows as {self.computed!r}"
        )


def tolerance_of(run: TraceRecord) -> float:
    """Return the default tolerance of probabilities; larger if the caches were quantized."""
    return _TOLERANCE if run.get("kv_bits") is None else QUANTIZED_TOLERANCE


def verify_trace(
    pair: Pair, records: Sequence[TraceRecord], tolerance: float | None = None
) -> Mismatch | None:
    """Return the first step that the models do not confirm, None if they confirm all.

    Args:
        pair: the models of the run.
        records: a trace, as :func:`.records.read_trace` yields it.
        tolerance: how far a probability may be off; see :func:`tolerance_of` for the default.

    Raises:
        TraceError: the first record is not a ``run`` record, a value is missing or malformed, or
            the trace was written under other rules.
        SchemaError: answers cannot be constrained to the recorded JSON schema here.
    """
    if not records or records[0]["type"] != "run":
        raise TraceError("a trace begins with a run record")
    _check_rules(pair, records[0])
    steps = [record for record in records if record["type"] == "step"]
    if tolerance is None:
        tolerance = tolerance_of(records[0])
    try:
        replay = Replay(pair, records[0], steps, ended=records[-1]["type"] == "end")
        for index, step in enumerate(steps):
            if wrong := _compare(step, replay.expect(index, step), tolerance):
                return Mismatch(index, *wrong)
        return _compare_end(records, steps)
    except (KeyError, TypeError, IndexError) as error:
        raise TraceError(f"the trace lacks or garbles a value: {error}") from error


def _check_rules(pair: Pair, run: TraceRecord) -> None:
    """Refuse a trace of two tokenizers that was decided with another map between them."""
    written = run.get("rules", 1)
    if written != RULES and not all(one.identity for one in pair.projections()):
        raise TraceError(
            f"the trace was written by version {run.get('version')} under rules {written}, this "
            f"program follows rules {RULES}: it can be viewed, not verified"
        )


def _compare_end(records: Sequence[TraceRecord], steps: Sequence[TraceRecord]) -> Mismatch | None:
    ids = [step["id"] for step in steps]
    for end in (record for record in records if record["type"] == "end"):
        if end["token_ids"] != ids:
            return Mismatch(len(steps), "token_ids of the end record", end["token_ids"], ids)
    return None


def _compare(
    step: TraceRecord, expected: TraceRecord, tolerance: float
) -> tuple[str, Any, Any] | None:
    for name, value in _flat(expected):
        recorded = dict(_flat(step)).get(name)
        if isinstance(value, float) and isinstance(recorded, int | float):
            if abs(value - recorded) <= tolerance:
                continue
        elif recorded == value:
            continue
        return name, recorded, value
    return None


def _flat(record: TraceRecord, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, list) and value:
            value = dict(enumerate(value))
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
