"""The record of a run as JSON lines: one ``run``, one ``step`` per token, one ``end``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from ..decoding.answer_stream import Piece
from ..errors import TraceError
from ..input_text import decoded
from ..model import LanguageModel, Pair
from ..prompts import PairPrompt, Prompt
from ..step import Step

TraceRecord = dict[str, Any]
# Version of the rules that decide a step; incremented when they would reject an older true trace.
# 2: the map between two tokenizers goes to the token that the base itself writes.
# 3: a guide token that the base writes as several is finished as the guide began it.
RULES = 3


class TraceFile(Protocol):
    """A text file open for writing, as far as a trace needs one."""

    def write(self, text: str, /) -> object:
        """Write a line, which ends in a line break."""

    def flush(self) -> object:
        """Hand what was written to the system."""


class TraceWriter:
    """A writer of traces, flushed after each line, so that a trace survives a crash.

    Example:
        >>> writer = TraceWriter(file, pair)
        >>> writer.run(prompt, {"seed": 0})
        >>> writer.step(piece)          # for each piece of each response
        >>> writer.end(statistics.as_json())
    """

    def __init__(self, file: TraceFile, pair: Pair) -> None:
        self._file = file
        self._pair = pair

    def run(self, prompt: PairPrompt, settings: TraceRecord) -> None:
        """Write the first line: the models, their prompts, and the settings."""
        self._write(
            {
                "type": "run",
                "version": version("blendin-mlx"),
                "rules": RULES,
                "models": _models(self._pair),
                "base_prompt": _prompt(prompt.base),
                "aligned_prompt": _prompt(prompt.aligned),
                **settings,
            }
        )

    def step(self, piece: Piece) -> None:
        """Write one decided position."""
        self._write(step_record(piece.step, piece.text, self._pair))

    def end(self, result: TraceRecord) -> None:
        """Write the last line: the ``--json`` object without its text."""
        rest = {key: value for key, value in result.items() if key != "text"}
        self._write({"type": "end", **rest})

    def _write(self, record: TraceRecord) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()


def step_record(step: Step, text: str, pair: Pair) -> TraceRecord:
    """Return a step as a record; ``text`` is what its token completed."""
    guidance = step.guidance
    record = {
        "type": "step",
        "index": step.index,
        "id": step.id,
        "text": text,
        "source": step.source,
        "base": step.base and candidate_record(step.base.id, step.base.prob, pair.base),
        "aligned": guidance and candidate_record(guidance.top.id, guidance.top.prob, pair.aligned),
        "alpha": guidance and guidance.alpha,
        "prob": step.prob,
        "exact_mass": guidance and guidance.exact_mass,
        "prefix_mass": guidance and guidance.prefix_mass,
        "stop_prob": step.stop_prob,
        "gate_margin": step.gate_margin,
        "gap": step.gap,
        "stop_check": step.stop_check,
        "instead_of": step.instead_of,
    }
    if step.candidates is None:
        return record
    models = {"base": pair.base, "aligned": pair.aligned, "blend": pair.base}
    lists = {
        role: [candidate_record(one.id, one.prob, model) for one in getattr(step.candidates, role)]
        for role, model in models.items()
    }
    return {**record, "candidates": lists}


def candidate_record(token: int, prob: float, model: LanguageModel) -> TraceRecord:
    """Return a token of a model as a record; one that writes nothing has an empty text."""
    written = model.vocabulary.token_bytes[token] or b""
    return {"id": token, "text": written.decode(errors="replace"), "prob": prob}


def _models(pair: Pair) -> TraceRecord:
    return {role: _identity(model) for role, model in pair.models().items()}


def _identity(model: LanguageModel) -> TraceRecord:
    return {"name": model.name, "path": model.path, "revision": model.revision}


def _prompt(prompt: Prompt) -> TraceRecord:
    return {"text": prompt.text, "ids": list(prompt.ids)}


def read_trace(path: Path) -> Iterator[TraceRecord]:
    """Yield the records of a trace, in order.

    Raises:
        TraceError: a line is not a record; the message names it.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(decoded(line, str(path)))
                record["type"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise TraceError(f"{path}:{number} is not a trace record") from None
            yield record


@dataclass
class RecordedRun:
    """A trace, up to where it can be read.

    Attributes:
        run: the first record: models, prompts and settings.
        steps: one record per decided position.
        end: the figures of the whole run, None if the trace was cut off.
        notes: one line each for another version, a line that is not a record, a missing end.
    """

    run: TraceRecord
    steps: list[TraceRecord] = field(default_factory=list)
    end: TraceRecord | None = None
    notes: list[str] = field(default_factory=list)


def read_run(path: Path) -> RecordedRun:
    """Read a trace up to its end, or up to the first line that is not a record.

    Raises:
        TraceError: the file does not begin with a run record.
    """
    records = read_trace(path)
    try:
        first = next(records, None)
    except TraceError:
        first = None
    if first is None or not is_run(first):
        raise TraceError(f"{path} is not a trace: it does not begin with a run record")
    recorded = RecordedRun(first)
    if first.get("version") != version("blendin-mlx"):
        recorded.notes.append(
            f"{path} was written by version {first.get('version')}, "
            f"this is {version('blendin-mlx')}"
        )
    _read_steps(path, records, recorded)
    return recorded


def _read_steps(path: Path, records: Iterator[TraceRecord], recorded: RecordedRun) -> None:
    try:
        for number, record in enumerate(records, 2):
            if record["type"] == "end":
                recorded.end = record
                return
            if record["type"] != "step" or not _is_step(record):
                raise TraceError(f"{path}:{number} is not a step of a trace")
            recorded.steps.append(record)
        recorded.notes.append(f"{path} was cut off: it has no end record")
    except TraceError as error:
        recorded.notes.append(f"{error}; shown up to there")


def is_run(record: TraceRecord) -> bool:
    """Return whether a record begins a run: it names both models."""
    models = record.get("models")
    if record["type"] != "run" or not isinstance(models, dict):
        return False
    named = (models.get("base"), models.get("aligned"), *models.values())
    return all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in named)


def _is_step(record: TraceRecord) -> bool:
    kinds = {"index": int, "id": int, "text": str, "source": str}
    if not all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
        return False
    numbers = ("alpha", "gap", "gate_margin", "stop_prob", "exact_mass")
    if any(name not in record for name in (*numbers, "base", "aligned")):
        return False
    if not all(record[name] is None or _is_number(record[name]) for name in numbers):
        return False
    lists = record.get("candidates", {})
    if not isinstance(lists, dict) or not all(isinstance(one, list) for one in lists.values()):
        return False
    if not all(_is_candidate(one) for several in lists.values() for one in several):
        return False
    candidates = [record[role] for role in ("base", "aligned") if record[role] is not None]
    return _is_number(record.get("prob")) and all(map(_is_candidate, candidates))


def _is_candidate(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), int)
        and isinstance(value.get("text"), str)
        and _is_number(value.get("prob"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max
