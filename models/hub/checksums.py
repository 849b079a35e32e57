"""Whether a file of the hub's cache is what the hub has on record.

Large files have a SHA-256 there; that they had it is remembered in our home, so that it is paid
once. Small ones have git's name for them, a SHA-1, and are hashed each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from ..storage import manifest, paths
from ..storage.small_files import read_json, replace_file

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
    """Return the blob that a file of a snapshot links to; it may be a link to a shared store."""
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
