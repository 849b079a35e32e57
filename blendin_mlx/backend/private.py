"""Private folders: files that are loaded as code lie only where no other user can write.

MLX compiles kernels for the CPU (and CUDA) into a folder with a predictable name under the
temporary directory, and loads the files it finds there. On a shared machine every user can write in
that directory.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import platformdirs

__all__ = [
    "home",
    "keep_kernels_private",
    "named_folder",
    "others_can_change",
    "private_folder",
]

_KERNELS = "kernels"  # in the cache folder; MLX makes a subfolder per version


def home() -> Path:
    """Return the cache folder: ``BLENDIN_HOME``, else the platform's.

    Raises:
        ValueError: as :func:`named_folder`.
    """
    return named_folder("BLENDIN_HOME", platformdirs.user_cache_dir("blendin"))


def named_folder(variable: str, default: str) -> Path:
    """Return the folder that an environment variable names, as an absolute path.

    A relative path is resolved once, against the working directory at the first call.

    Args:
        variable: the environment variable.
        default: the folder if the variable is unset or empty.

    Raises:
        ValueError: it is in the home folder of an unknown user.
    """
    named = os.environ.get(variable) or default
    try:
        return _absolute(named)
    except RuntimeError:
        raise ValueError(f"{variable} is {named!r}: no user of that name has a home") from None


@cache
def _absolute(folder: str) -> Path:
    return Path(folder).expanduser().absolute()


def others_can_change(path: Path) -> bool:
    """Return whether a user other than this one and root can write or replace a file or folder.

    The sticky bit of a folder protects files that exist in it, not names that do not exist yet.

    Raises:
        OSError: it does not exist.
    """
    found = path.lstat()
    trusted = found.st_uid in (0, os.geteuid()) and not stat.S_ISLNK(found.st_mode)
    return not trusted or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def keep_kernels_private() -> None:
    """Set ``TMPDIR`` to a private folder for MLX if other users can write in the present one.

    Python's own temporary files stay where they were. If the cache folder cannot be written, the
    private folder is a temporary one, removed when the process ends.
    """
    before = Path(tempfile.gettempdir())  # Python keeps this answer
    if not others_can_change(before):
        return
    os.environ["TMPDIR"] = str(_kernel_folder())


def private_folder(path: Path) -> Path:
    """Make a folder that only the user can write in; empty it if others could so far.

    Raises:
        OSError: it cannot be made, or belongs to another user.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if others_can_change(path) and path.lstat().st_uid == os.geteuid():
        shutil.rmtree(path)
        path.mkdir(mode=0o700)
    if others_can_change(path):
        raise PermissionError(errno.EPERM, "other users can write in it", str(path))
    return path


def _kernel_folder() -> Path:
    with suppress(
        OSError, ValueError
    ):  # an unusable cache folder is reported when models are looked up
        folder = private_folder(home() / _KERNELS)
        if os.access(folder, os.W_OK):
            return folder
    folder = Path(tempfile.mkdtemp(prefix="blendin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
