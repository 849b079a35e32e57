"""A model that was found on this machine: its name parsed, and the commands that repair it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, UnsuitableError
from . import paths

_REPO_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?\Z")


@dataclass(frozen=True)
class LocalModel:
    """A model that is on this machine, and where it came from.

    Attributes:
        name: as it was asked for.
        folder: where it is.
        revision: which version of its source: a commit, or ``sha256:…`` of a file.
        source: a name that fetches it again; None for a folder of the user's own.
    """

    name: str
    folder: Path
    revision: str | None = None
    source: str | None = None


def repo_named(name: str) -> tuple[str, str | None] | None:
    """Return the hub repo and the revision that a name says, None if it is not a hub repo id.

    Example:
        >>> repo_named("HuggingFaceTB/SmolLM2-360M@main")
        ('HuggingFaceTB/SmolLM2-360M', 'main')
    """
    match = _REPO_ID.match(name)
    return (match[1], match[2]) if match else None


def repair(removed: str, fetched: str) -> str:
    """Return the commands that replace a model."""
    return f"blendin models remove {removed} && blendin models pull {fetched}"


@contextmanager
def repair_named(located: LocalModel) -> Iterator[None]:
    """Context manager: add the commands that repair a model to an error about it."""
    try:
        yield
    except UnsuitableError:
        raise
    except ModelError as error:
        if located.source is None:
            raise
        if located.folder.parent == paths.models_folder():
            advice = f"repair it: {repair(located.folder.name, located.source)}"
        else:  # its files were as the hub has them, so the same would come again
            advice = f"blendin models verify {located.source} tells if it is as the hub has it"
        raise type(error)(f"{error}; {advice}") from error
