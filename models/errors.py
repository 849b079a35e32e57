"""What can be wrong with a model before it runs."""

from __future__ import annotations

import re

from blendin_mlx.errors import BlendinError

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


class ModelError(BlendinError):
    """A model is missing, incomplete, damaged, or of a kind that cannot be loaded."""


class UnsuitableError(ModelError):
    """A model is of a kind that is never loaded; fetching it again cannot help."""


class MemoryNeededError(ModelError):
    """Both models and their caches need more memory than the device has to give."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, for a message of one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def without_passwords(text: str) -> str:
    """Return a message without the user names and passwords of its addresses."""
    return _CREDENTIALS.sub("", text)
