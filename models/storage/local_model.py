"""A model found on this machine, and the commands that repair it."""

from __future__ import annotations

import os
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
    """A model on this machine, and its source.

    Attributes:
        name: the name it was requested by.
        folder: its folder.
        revision: the version of its source: a commit, or ``sha256:…`` of a file.
        source: a name that fetches it again; None for a folder of the user's.
        adapter: the folder of the adapter that it gets, absolute.
    """

    name: str
    folder: Path
    revision: str | None = None
    source: str | None = None
    adapter: Path | None = None

    @property
    def title(self) -> str:
        """The name, and that of the adapter if there is one."""
        return with_adapter(self.name, self.adapter)


def adapter_folder(name: str | Path | None) -> Path | None:
    """Return the absolute path of an adapter's folder, as a user names it."""
    return None if name is None else Path(os.path.expanduser(name)).resolve()


def with_adapter(name: str, adapter: Path | None) -> str:
    """Return the name of a model with an adapter."""
    return name if adapter is None else f"{name}+{adapter.name}"


def repo_named(name: str) -> tuple[str, str | None] | None:
    """Return the hub repo and the revision that a name says, None if it is not a hub repo id.

    Example:
        >>> repo_named("HuggingFaceTB/SmolLM2-360M@main")
        ('HuggingFaceTB/SmolLM2-360M', 'main')
    """
    match = _REPO_ID.match(name)
    return (match[1], match[2]) if match else None


def repair(removed: str, fetched: str) -> str:
    """Return the commands that remove a model and fetch it again."""
    return f"blendin models remove {removed} && blendin models pull {fetched}"


@contextmanager
def repair_named(located: LocalModel) -> Iterator[None]:
    """Context manager: append to a `ModelError` the commands that repair the model, if any help."""
    try:
        yield
    except UnsuitableError:
        raise
    except ModelError as error:
        if located.source is None:
            raise
        if located.folder.parent == paths.models_folder():
            advice = f"repair it: {repair(located.folder.name, located.source)}"
        else:  # its files matched the hub's, so fetching them again would not help
            advice = f"compare it with the hub: blendin models verify {located.source}"
        raise type(error)(f"{error}; {advice}") from error
