"""Check that files fit the disk before they are written, summed up per file system."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError


@dataclass(frozen=True)
class Wanted:
    """Disk space that files will need.

    Attributes:
        what: a label: the models, or what is done with them.
        bytes: the space needed.
        folder: the folder they are written to.
        setting: the environment variable that sets another folder.
    """

    what: str
    bytes: int
    folder: Path
    setting: str


def require(wanted: Sequence[Wanted]) -> None:
    """Raise if the files do not fit the disk.

    Raises:
        ModelError: a file system has too little space; names what is needed and what is free.
    """
    by_device: dict[int, list[Wanted]] = {}
    for one in wanted:
        if one.bytes > 0:
            by_device.setdefault(_existing(one.folder).stat().st_dev, []).append(one)
    for group in by_device.values():
        needed = sum(one.bytes for one in group)
        free = shutil.disk_usage(_existing(group[0].folder)).free
        if needed > free:
            whats, folders, settings = (
                " and ".join(dict.fromkeys(map(str, column)))
                for column in zip(*((w.what, w.folder, w.setting) for w in group), strict=True)
            )
            verb = "need" if " and " in whats else "needs"
            raise ModelError(
                f"{whats} {verb} {readable(needed)} more in {folders}, where "
                f"{readable(free, needed)} are free; free some space, or set another folder "
                f"with {settings}"
            )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def readable(count: int, beside: int = 0) -> str:
    """Format a number of bytes, in the unit that suits it or the larger number `beside`."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if max(count, beside) >= unit / 10:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
