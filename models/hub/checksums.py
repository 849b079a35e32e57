"""Verify the checksums of files in the hub's cache.

The hub records a SHA-256 for large files; the result is stored under ``BLENDIN_HOME``, so that each
is hashed once. Small files have git's blob name, a SHA-1, and are hashed each time.
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


def is_as_recorded(path: Path, checksum: str | None, rehash: bool = False) -> bool:
    """Return True if a file has the recorded checksum, or else the one its blob is named by.

    Args:
        path: the file, or a link to its blob.
        checksum: a SHA-256, or git's SHA-1; None if nothing is recorded.
        rehash: compute a SHA-256 even if it was verified before.
    """
    wanted = checksum or blob_of(path).name
    if SHA256.match(wanted):
        return _has_sha256(path.resolve(), wanted, rehash)
    return not SHA1.match(wanted) or git_name(path) == wanted


def blob_of(path: Path) -> Path:
    """Return the blob that a file of a snapshot links to; one level only, as blobs may be links."""
    return Path(os.path.normpath(path.parent / os.readlink(path))) if path.is_symlink() else path


def git_name(path: Path) -> str:
    """Return git's blob name of a file, a SHA-1; the hub's cache uses it for small files."""
    begin = b"blob %d\0" % path.stat().st_size
    return manifest.hashed(path, hashlib.sha1(begin, usedforsecurity=False))


def _has_sha256(blob: Path, sha256: str, rehash: bool) -> bool:
    """Compare a file's SHA-256; skip hashing if it was verified and has not changed since."""
    about = blob.stat()
    fact = [about.st_size, about.st_mtime_ns, sha256]
    known = _verified()
    if not rehash and known.get(str(blob)) == fact:
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
