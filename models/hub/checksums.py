"""Whether a file of the hub's cache is what the hub has on record.

Large files have a SHA-256 there; that they had it is remembered in our home, so that it is paid
once. Small ones have git's name for them, a SHA-1, and are hashed each time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from pathlib import Path

from blendin_mlx.input_text import read_text

from ..storage import manifest, paths

SHA256 = re.compile(r"[0-9a-f]{64}\Z")
SHA1 = re.compile(r"[0-9a-f]{40}\Z")


def is_as_recorded(path: Path, checksum: str | None, anew: bool = False) -> bool:
    """True if a file has the checksum on record, or the one that its blob is named by.

    Args:
        checksum: a SHA-256, or git's SHA-1; None where nothing is on record.
        anew: hash it, whatever was found before.
    """
    wanted = checksum or blob_of(path).name
    if SHA256.match(wanted):
        return _has_sha256(path.resolve(), wanted, anew)
    return not SHA1.match(wanted) or git_name(path) == wanted


def blob_of(path: Path) -> Path:
    """The blob that a file of a snapshot is a link to; it may itself be one, to a shared store."""
    return Path(os.path.normpath(path.parent / os.readlink(path))) if path.is_symlink() else path


def git_name(path: Path) -> str:
    """Return the SHA-1 by which git, and the hub's cache, names a small file."""
    begin = b"blob %d\0" % path.stat().st_size
    return manifest.hashed(path, hashlib.sha1(begin, usedforsecurity=False))


def _has_sha256(blob: Path, sha256: str, anew: bool) -> bool:
    """Hash a file, unless it was found right before and is as it was then."""
    about = blob.stat()
    fact = [about.st_size, about.st_mtime_ns, sha256]
    known = _verified()
    if not anew and known.get(str(blob)) == fact:
        return True
    whole = manifest.sha256(blob) == sha256
    if whole or str(blob) in known:
        facts = {path: kept for path, kept in known.items() if Path(path).exists()}
        facts.pop(str(blob), None)
        replace_file(_facts_file(), json.dumps({**facts, **({str(blob): fact} if whole else {})}))
    return whole


def _facts_file() -> Path:
    return paths.home() / "verified.json"


def _verified() -> dict[str, list[object]]:
    facts = read_json(_facts_file())
    return facts if isinstance(facts, dict) else {}


def read_json(path: Path) -> object:
    """Return what a small file holds, None where it is not there or damaged."""
    try:
        content: object = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content


def read_regular(path: Path) -> str:
    """Return the text of a small regular file.

    Raises:
        OSError: it is not there, or is a pipe or a device, which might never end.
        ValueError: it is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return read_text(path)


def replace_file(path: Path, content: str) -> None:
    """Write a small file whole; where that cannot be, it is not there and costs time later."""
    part = path.with_name(f"{path.name}.part")  # one name: what a kill leaves is replaced
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # a pipe would wait, a link lead elsewhere
        with part.open("x", encoding="utf-8") as file:
            file.write(content)
        os.replace(part, path)
