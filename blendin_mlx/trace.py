"""The record of a run as JSON lines: one ``run``, one ``step`` per token, one ``end``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from .answering import Piece
from .errors import BlendinError
from .model import LanguageModel, Pair
from .prompts import PairPrompt, Prompt
from .step import Step

Record = dict[str, Any]


class TraceError(BlendinError):
    """A trace cannot be read, or is none."""


class TraceWriter:
    """Writes a trace, a line at a time, so that what was decided survives whatever comes next.

    Example:
        >>> writer = TraceWriter(file, pair)
        >>> writer.run(prompt, {"seed": 0})
        >>> writer.step(piece)          # for each piece of each response
        >>> writer.end(statistics.as_json())
    """

    def __init__(self, file: IO[str], pair: Pair) -> None:
        self._file = file
        self._pair = pair

    def run(self, prompt: PairPrompt, settings: Record) -> None:
        """The first line: the models, what both read, and the settings."""
        self._write(
            {
                "type": "run",
                "version": version("blendin-mlx"),
                "models": {
                    "base": _identity(self._pair.base),
                    "aligned": _identity(self._pair.aligned),
                },
                "base_prompt": _prompt(prompt.base),
                "aligned_prompt": _prompt(prompt.aligned),
                **settings,
            }
        )

    def step(self, piece: Piece) -> None:
        """One decided position."""
        self._write(step_record(piece.step, piece.text, self._pair))

    def end(self, result: Record) -> None:
        """The last line: the ``--json`` object less its text."""
        rest = {key: value for key, value in result.items() if key != "text"}
        self._write({"type": "end", **rest})

    def _write(self, record: Record) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()


def step_record(step: Step, text: str, pair: Pair) -> Record:
    """A step as an object; ``text`` is what its token completed."""
    return {
        "type": "step",
        "index": step.index,
        "id": step.id,
        "text": text,
        "source": step.source,
        "base": candidate_record(step.base.id, step.base.prob, pair.base),
        "aligned": step.aligned
        and candidate_record(step.aligned.id, step.aligned.prob, pair.aligned),
        "alpha": step.alpha,
        "prob": step.prob,
        "exact_mass": step.exact_mass,
        "prefix_mass": step.prefix_mass,
        "stop_prob": step.stop_prob,
        "gate_margin": step.gate_margin,
        "gap": step.gap,
        "stop_check": step.stop_check,
        "instead_of": step.instead_of,
    }


def candidate_record(token: int, prob: float, model: LanguageModel) -> Record:
    """A model's top token as an object; one that writes nothing has an empty text."""
    written = model.vocabulary.token_bytes[token] or b""
    return {"id": token, "text": written.decode(errors="replace"), "prob": prob}


def _identity(model: LanguageModel) -> Record:
    return {"name": model.name, "path": model.path, "revision": model.revision}


def _prompt(prompt: Prompt) -> Record:
    return {"text": prompt.text, "ids": list(prompt.ids)}


def read_trace(path: Path) -> Iterator[Record]:
    """The records of a trace, in order.

    Raises:
        TraceError: a line that is no record; the message names it.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line.decode())
                record["type"]
            except (ValueError, KeyError, TypeError):
                raise TraceError(f"{path}:{number} is no trace record") from None
            yield record
