"""Tasks of the harness, found and loaded before any model is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


def load_tasks(names: Sequence[str], folder: Path | None) -> dict[str, Any]:
    """Load tasks and groups of tasks, and the questions that they ask.

    To look through all that the harness has takes seconds, so it is done once, if at all.

    Args:
        names: of tasks, groups or tags, patterns for them, or task files.
        folder: the user's own tasks; where all are in there, no others are looked for.

    Returns:
        The arguments ``tasks`` and ``task_manager`` of the harness's ``simple_evaluate``.

    Raises:
        click.BadParameter: there is no task of a name.
        click.ClickException: a task cannot be loaded.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=folder, include_defaults=folder is None)
    if folder is not None and any(not _matching(manager, name) for name in names):
        manager = TaskManager(include_path=folder)
    found = [match for name in names for match in _found(manager, name)]
    tasks = [task for name in dict.fromkeys(found) for task in _loaded(manager, name)]
    return {"tasks": tasks, "task_manager": manager}


def _found(manager: TaskManager, name: str) -> list[str]:
    """Return the names that a name or pattern stands for."""
    if matching := _matching(manager, name):
        return matching
    near = difflib.get_close_matches(name, manager.all_tasks, n=1)
    hint = (
        f"; did you mean {near[0]}?" if near else "; lm-eval ls tasks lists those that are built in"
    )
    raise click.BadParameter(f"there is no task {name}{hint}", param_hint="--tasks")


def _matching(manager: TaskManager, name: str) -> list[str]:
    if Path(name).suffix in (".yaml", ".yml") and Path(name).is_file():
        return [name]
    matching: list[str] = manager.match_tasks([name])
    return matching


def _loaded(manager: TaskManager, name: str) -> list[Any]:
    """Load a task or group; a tag stands for several tasks."""
    try:
        loaded = manager.load(name)
    except Exception as error:  # whatever a task's own code or files raise
        raise click.ClickException(f"task {name} cannot be loaded: {reason(error)}") from error
    groups = loaded.get("groups", {})
    return [groups[name]] if name in groups else list(loaded["tasks"].values())


def reason(error: BaseException) -> str:
    """Return the first cause of an error, as a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    if "offline" in text.lower():
        text += "; --fetch lets the harness fetch what is not on this machine"
    return f"{type(error).__name__}: {text:.300}"
