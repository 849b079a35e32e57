"""Keep φ, the map between two vocabularies, on disk: for large ones it takes a second to make."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from .storage import paths
from .storage.small_files import read_regular, replace_file

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel

FOLDER = "phi"
_FORMAT = 1  # incremented when φ is made otherwise, or kept otherwise


def kept_phi(base: LanguageModel, aligned: LanguageModel) -> list[int]:
    """Return φ from the vocabulary of ``aligned`` to that of ``base``, see :func:`.made_phi`.

    It is made again where none is kept for these tokenizers, or where the file is damaged.
    """
    from blendin_mlx.model import made_phi

    if base.path is None or aligned.path is None:
        return made_phi(base, aligned)
    file = paths.home() / FOLDER / _key(base, aligned)
    with suppress(OSError, ValueError):
        checksum, _, text = read_regular(file).partition("\n")
        if checksum == _digest(text.encode()):
            kept: list[int] = json.loads(text)
            return kept
    table = made_phi(base, aligned)
    text = json.dumps(table)
    replace_file(file, f"{_digest(text.encode())}\n{text}")
    return table


def _key(*models: LanguageModel) -> str:
    """Return a name made of everything that φ depends on: the tokenizers, and what ends a turn."""
    parts: list[object] = [_FORMAT, version("tokenizers")]
    for model in models:
        tokenizer = Path(str(model.path), "tokenizer.json").read_bytes()
        parts += [_digest(tokenizer), model.vocabulary.size]
        parts += [sorted(model.stop_ids), sorted(model.turn_ids)]
    return _digest(repr(parts).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
