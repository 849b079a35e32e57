"""Readings of examples, kept between runs: what was read once is not read again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..tuned import weights_digest

if TYPE_CHECKING:
    from blendin_mlx.model import Pair
    from blendin_mlx.prompts import PairPrompt
    from blendin_mlx.scoring.readings import Reading

VERSION = 1  # counted up when a reading of the same texts would be another one


class KeptReadings:
    """The readings of a pair in a file of the cache folder.

    Args:
        pair: the file is named after its weights, so that others have their own.

    Example:
        >>> kept = KeptReadings(pair)
        >>> reading = kept.get(kept.key(prompt, answer, "prefix"))    # None: not read yet
    """

    def __init__(self, pair: Pair) -> None:
        from blendin_models.storage.paths import home

        self.path: Path = home() / "tuning" / f"{weights_digest(pair)}.jsonl"
        self._readings = self._read()

    def _read(self) -> dict[str, Reading]:
        """Return what the file holds; a line that was cut is not read."""
        from blendin_mlx.scoring.readings import Reading

        found: dict[str, Reading] = {}
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return found
        for line in lines:
            try:
                record = json.loads(line)
                found[record["key"]] = Reading.from_json(record["reading"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return found

    def key(self, prompt: PairPrompt, answer: str, *settings: object) -> str:
        """Return the name of a reading: a digest of all that it hangs on."""
        read = [VERSION, prompt.base.ids, *prompt.guide_ids, answer, *map(str, settings)]
        return hashlib.sha256(json.dumps(read).encode()).hexdigest()

    def get(self, key: str) -> Reading | None:
        """Return the reading of that name, None where there is none."""
        return self._readings.get(key)

    def add(self, key: str, reading: Reading) -> None:
        """Keep a reading, in the file too.

        Raises:
            OSError: the file cannot be written.
        """
        self._readings[key] = reading
        self.path.parent.mkdir(parents=True, exist_ok=True)
        record = json.dumps({"key": key, "reading": reading.as_json()})
        with self.path.open("ab") as file:  # a line break first: an earlier line may have been cut
            file.write(f"\n{record}\n".encode())
