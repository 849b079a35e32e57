"""Where models live on this machine: one folder each, in the user's cache."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from platformdirs import user_config_dir

from blendin_mlx.backend.private import (
    home as home,
)  # the same folder for models, kernels and the BLAS
from blendin_mlx.backend.private import named_folder

from ..errors import ModelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
# A folder is a model only with these; they are the last to be written by an import.
REQUIRED = ("config.json", "tokenizer.json")
WEIGHTS = "model*.safetensors"


def config_folder() -> Path:
    """Return the folder of the user's settings: ``BLENDIN_CONFIG``, else the platform's own.

    Raises:
        ValueError: it is in the home folder of an unknown user.
    """
    return named_folder("BLENDIN_CONFIG", user_config_dir("blendin"))


def models_folder() -> Path:
    """The folder of imported and converted models."""
    return home() / "models"


def model_folder(name: str) -> Path:
    """Where the model of that name is kept, whether or not it is there.

    Raises:
        ModelError: a name that could leave the folder.
    """
    if not NAME.match(name):
        raise ModelError(f"{name!r} is no model name: letters, digits, '.', '_' and '-' only")
    return models_folder() / name


def is_installed(name: str) -> bool:
    """Whether a complete model of that name is kept here."""
    return looks_like_model(model_folder(name))


def looks_like_model(folder: Path) -> bool:
    """Whether a folder holds a config, a tokenizer and weights."""
    return not lacking(folder)


def lacking(folder: Path) -> list[str]:
    """What a folder would need to be a model: files by name, weights by pattern."""
    missing = [file for file in REQUIRED if not (folder / file).is_file()]
    weights = any(path.is_file() for path in folder.glob(WEIGHTS))
    return missing if weights else [*missing, WEIGHTS]


def special_file(folder: Path) -> Path | None:
    """Return a file of a model folder that is none, as a pipe, a socket or a device.

    Reading it might take for ever. Templates may lie one folder deeper.
    """
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if path.exists() and not path.is_file() and not path.is_dir():
            return path
    return None


def size_on_disk(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(name: str) -> int:
    """Delete a kept model; return how many bytes that freed.

    Raises:
        ModelError: no such model is kept.
    """
    folder = model_folder(name)
    if not folder.is_dir():
        raise ModelError(f"{name} is not installed; see blendin models list")
    freed = 0
    if not folder.is_symlink():
        freed = size_on_disk(folder)
        (folder / "config.json").unlink(missing_ok=True)  # half deleted it is not a model
    delete_tree(folder)
    return freed


def delete_tree(folder: Path) -> None:
    """Delete a folder with all that is in it; of a link to one, the link alone."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)
