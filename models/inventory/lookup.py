"""Find models on this machine by name."""

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
    """Return the models on this machine that belong to a pair, a model or a hub repo.

    Args:
        name: the name; a hub repo id may end in ``@revision``.
        here: the models on this machine, if the caller has listed them already.

    Raises:
        ModelError: the name is unknown, or none of its models is here.
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
    """Return the folder that loading a model uses, of all its folders on this machine.

    Args:
        name: a model or a hub repo id, which may end in ``@revision``.
        here: the models on this machine, if the caller has listed them already.

    Raises:
        ModelError: see :func:`find`.
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
    """Return the hub repo that a name stands for, and its revision or None; None if not a repo."""
    entry = entries.models().get(name)
    if isinstance(entry, entries.HubModel):
        return entry.repo, entry.revision
    return repo_named(name)


def _repo(name: str) -> tuple[str, list[str] | None] | None:
    """Return the hub repo that a name stands for, and the commits that match; None for all."""
    asked = repo_asked_for(name)
    if asked is None or asked[1] is None:
        return asked and (asked[0], None)
    return asked[0], [asked[1], *cache.commits(asked[0], asked[1])]


def _is_of(kept: Kept, repo: str, commits: list[str] | None) -> bool:
    return kept.source == repo and (commits is None or kept.revision in commits)


def _near(name: str, here: Iterable[Kept]) -> str:
    """Return a "did you mean" hint for an unknown name, or nothing."""
    known = [*entries.pairs(), *entries.models(), *(kept.name for kept in here if kept.is_own)]
    if name in known or not (near := difflib.get_close_matches(name, known, n=1)):
        return ""
    return f"did you mean {near[0]}? "
