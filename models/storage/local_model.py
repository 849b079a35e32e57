"""A model that was found on this machine, and how to get it anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, UnsuitableError
from . import paths

REPO_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?\Z")


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


def repair(removed: str, fetched: str) -> str:
    """The commands that replace a model."""
    return f"blendin models remove {removed} && blendin models pull {fetched}"


@contextmanager
def repair_named(located: LocalModel) -> Iterator[None]:
    """An error about a model says how to get it anew, where that can help."""
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
