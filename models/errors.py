"""Errors of models before they run."""

from __future__ import annotations

import re

from blendin_mlx.errors import BlendinError

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


class ModelError(BlendinError):
    """A model is missing, incomplete, damaged, or of an unsupported kind."""


class UnsuitableError(ModelError):
    """A model is of an unsupported kind; fetching it again does not help."""


class MemoryNeededError(ModelError):
    """The models and their caches need more memory than the device has free."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def without_passwords(text: str) -> str:
    """Return a message without the user names and passwords in its URLs."""
    return _CREDENTIALS.sub("", text)
