"""A repo on the loopback hub, and its description as a hub sends it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

LFS = (".safetensors", ".bin", ".gguf")


@dataclass
class Repo:
    """Files of one commit, and the names that the commit has."""

    files: dict[str, bytes]
    commit: str = field(init=False)
    names: tuple[str, ...] = ("main",)

    def __post_init__(self) -> None:
        content = b"".join(name.encode() + data for name, data in sorted(self.files.items()))
        self.commit = hashlib.sha1(content).hexdigest()

    def describe(self, name: str, tree: bool) -> dict[str, object]:
        """Describe a file as the tree or as the description of the repo lists it."""
        data = self.files[name]
        path, own, large = ("path", "oid", "oid") if tree else ("rfilename", "blobId", "sha256")
        about: dict[str, object] = {path: name, "size": len(data), own: oid(data)}
        if name.endswith(LFS):
            about["lfs"] = {large: sha256(data), "size": len(data), "pointerSize": 134}
        return {"type": "file", **about} if tree else about


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def oid(data: bytes) -> str:
    """Return git's blob name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
