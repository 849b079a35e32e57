"""A digest of a model folder, fast enough for every start: large files are sampled."""

from __future__ import annotations

import hashlib
from pathlib import Path

from . import manifest
from .paths import WEIGHTS

_WHOLE = 1 << 26  # bytes up to which a file is read whole: any tokenizer
_SAMPLES = 512  # of a larger one; weights that were trained differ nearly everywhere
_SAMPLE = 4096  # bytes
_PATTERNS = ("*.json", "*.jinja", WEIGHTS)


def folder_digest(folder: Path) -> str:
    """Return a digest of the files that decide what a model computes and reads.

    Of a file above 64 MiB its size, its beginning and 512 evenly spread samples count, so a few
    changed bytes of weights may go unnoticed; other weights do not.

    Example:
        >>> folder_digest(Path("models/gemma-3-270m"))[:8]
        '5c1f9a02'
    """
    digest = hashlib.sha256()
    paths = {path for pattern in _PATTERNS for path in folder.glob(pattern)}
    for path in sorted(path for path in paths if path.is_file() and path.name != manifest.FILE):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        if size <= _WHOLE:
            manifest.hashed(path, digest)
            continue
        with path.open("rb") as file:
            for n in range(_SAMPLES):
                file.seek(n * (size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
