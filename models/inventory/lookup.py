"""Models on this machine, found by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from ..catalogue import entries
from ..errors import ModelError
from ..hub import cache
from ..storage import paths
from ..storage.local_model import repo_named
from .listing import Kept, conversion, everything


def find(name: str, here: Sequence[Kept] | None = None) -> list[Kept]:
    """Return what is here of a pair, a model or a hub repo (one revision, if the name has one).

    Args:
        here: what is on this machine, where the caller knows it already.

    Raises:
        ModelError: nothing has that name, or nothing of it is here.
    """
    if not (repo_named(name) or name in entries.pairs() or name in entries.models()):
        paths.model_folder(name)  # refuses a name that cannot be one
    here = everything() if here is None else here
    names = entries.parts(name)
    repos = [wanted for one in names if (wanted := _repo(one))]
    found = [
        kept
        for kept in here
        if (kept.is_own and kept.name in names) or any(_is_of(kept, *repo) for repo in repos)
    ]
    if not found:
        raise ModelError(f"{name} is not installed; {_near(name, here)}see blendin models list")
    return found


def used(name: str, here: Sequence[Kept] | None = None) -> Kept:
    """Return the copy that loading a model takes, of all that are here.

    Raises:
        ModelError: as :func:`find`.
    """
    here = everything() if here is None else here
    found = find(name, here)
    asked = repo_asked_for(name)
    if asked is None:
        return found[0]
    repo, revision = asked
    for commit in cache.commits(repo, revision or cache.MAIN):
        if made := conversion(repo, commit, here=here):
            return made
        for kept in found:
            if kept.revision == commit and not kept.is_own and not kept.problem:
                return kept
    return found[0]


def repo_asked_for(name: str) -> tuple[str, str | None] | None:
    """Return the hub repo that a name stands for, and the revision if it has one."""
    entry = entries.models().get(name)
    if isinstance(entry, entries.HubModel):
        return entry.repo, entry.revision
    return repo_named(name)


def _repo(name: str) -> tuple[str, list[str] | None] | None:
    """Return the hub repo that a name stands for, and the commits that are meant; None for all."""
    asked = repo_asked_for(name)
    if asked is None or asked[1] is None:
        return asked and (asked[0], None)
    return asked[0], [asked[1], *cache.commits(asked[0], asked[1])]


def _is_of(kept: Kept, repo: str, commits: list[str] | None) -> bool:
    return kept.source == repo and (commits is None or kept.revision in commits)


def _near(name: str, here: Iterable[Kept]) -> str:
    """Return a hint at the name that may have been meant."""
    known = [*entries.pairs(), *entries.models(), *(kept.name for kept in here if kept.is_own)]
    if name in known or not (near := difflib.get_close_matches(name, known, n=1)):
        return ""
    return f"did you mean {near[0]}? "
