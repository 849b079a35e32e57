"""The manifest ``blendin.json`` of a model folder: its source, and the checksums of its files."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import ModelError, first_line
from ..progress import Advance
from .small_files import parse_json, read_regular, write_json

FILE = "blendin.json"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """The manifest of a model folder.

    Attributes:
        source: where the model came from: packages, a hub repo or a file.
        revision: the version of the source: a commit, or ``sha256:…`` of a file.
        quantization: bits and group size, if it was quantized here.
        files: SHA-256 by file name.
    """

    source: str
    revision: str | None = None
    quantization: dict[str, int] | None = None
    files: dict[str, str] = field(default_factory=dict)


def write(folder: Path, manifest: Manifest) -> None:
    """Hash the files of a folder, and write its manifest."""
    found = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != FILE}
    write_json(folder / FILE, {**asdict(manifest), "files": found})


def read(folder: Path) -> Manifest | None:
    """Read the manifest of a folder; return None if it has none.

    Raises:
        ModelError: the manifest is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        made = Manifest(**parse_json(read_regular(path)))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {first_line(error)}") from None
    for key, value in asdict(made).items():
        if not _is_of_its_kind(key, value):
            raise ModelError(f"{path} is damaged: {key!r} is of the wrong type")
    return made


def _is_of_its_kind(key: str, value: object) -> bool:
    if key == "source":
        return isinstance(value, str)
    if key == "revision":
        return value is None or isinstance(value, str)
    if key == "quantization" and value is None:
        return True
    wanted = str if key == "files" else int
    return isinstance(value, dict) and all(
        "/" not in str(name) and type(entry) is wanted for name, entry in value.items()
    )


def problems(folder: Path, progress: Advance | None = None) -> list[str]:
    """Compare the files of a folder with its manifest; return a line for each problem.

    Args:
        folder: the model folder.
        progress: called with the bytes hashed so far and the total.

    Raises:
        ModelError: the manifest is missing or damaged.
    """
    manifest = read(folder)
    if manifest is None:
        raise ModelError(f"{folder} has no record of its files' checksums ({FILE})")
    present = {name: folder / name for name in manifest.files if (folder / name).is_file()}
    found = [f"{name} is missing" for name in manifest.files if name not in present]
    total = sum(path.stat().st_size for path in present.values())
    done = 0
    for name, path in present.items():
        if sha256(path) != manifest.files[name]:
            found.append(f"{name} is damaged: its SHA-256 differs")
        done += path.stat().st_size
        if progress:
            progress(done, total)
    return found


def sha256(*paths: Path) -> str:
    """Return the SHA-256 of a file, or of several files concatenated, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        hashed(path, digest)
    return digest.hexdigest()


def hashed(path: Path, digest: hashlib._Hash) -> str:
    """Update a digest with the content of a file; return it in hexadecimal."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
