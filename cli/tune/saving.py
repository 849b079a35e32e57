"""Settings that were found, written as a pair of the user's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options.settings import Settings
from ..terminal.files import write_whole

if TYPE_CHECKING:
    from blendin_mlx.scoring.dial_map import Dial


def own_pair_file(name: str, models: Sequence[str]) -> Path:
    """Return the file of the user's own pair of that name, found fit to be written.

    Args:
        name: of the pair.
        models: its base and its aligned model.

    Raises:
        click.UsageError: it is not a name, it is taken by a pair that was not written here, or a
            model is not in the catalogue.
    """
    from blendin_models.catalogue import entries
    from blendin_models.storage.paths import NAME, config_folder

    file = config_folder() / "pairs" / f"{name}.toml"
    if not NAME.match(name):
        raise click.UsageError(f"--save: {name!r} is not a name: letters, digits, dots and dashes")
    for model in models:
        if model not in entries.models():
            raise click.UsageError(
                f"--save: {model} is not in the catalogue; add [models.NAME] to a .toml file in "
                f"{file.parent} and name it there"
            )
    pair = entries.pairs().get(name)
    ours = pair is None or (pair.tuned_for is not None and file.is_file())
    if name in entries.models() or not ours:
        raise click.UsageError(f"--save: the name {name} is taken; choose another")
    return file


def write_pair(
    file: Path,
    models: Sequence[tuple[str, Path | None]],
    dial: Dial,
    settings: Settings,
    weights: str,
    why: str,
) -> None:
    """Write a pair with the settings of a dial, whole or not at all.

    Args:
        file: from :func:`own_pair_file`.
        models: its base and its aligned model, each with the folder of its adapter.
        dial: the chosen setting.
        settings: the options of the command, of which the base template is kept.
        weights: digest of the weights that the settings are for.
        why: a line that describes it.

    Raises:
        click.UsageError, OSError: it cannot be written.
    """
    values: dict[str, str | float] = {"description": why}
    for role, (model, adapter) in zip(("base", "aligned"), models, strict=True):
        values[role] = model
        if adapter is not None:
            values[f"{role}_adapter"] = str(adapter)
    values["tau"] = dial.tau
    if dial.alpha is not None:
        values["alpha"] = dial.alpha
    values |= {"dial": dial.scale, "guide_temp": dial.guide_temp}
    if isinstance(settings.base_template, str):
        values["base_template"] = settings.base_template
    values["tuned_for"] = weights
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    head = f"# Written by blendin tune --save {file.stem}\n\n[pairs.{json.dumps(file.stem)}]\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, head + "".join(lines), "--save")
