"""The folders of models on this machine: one each, in the user's cache."""

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
# Required in every model folder.
REQUIRED = ("config.json", "tokenizer.json")
WEIGHTS = "model*.safetensors"


def config_folder() -> Path:
    """Return the folder of the user's settings: ``BLENDIN_CONFIG``, else the platform's own.

    Raises:
        ValueError: it is in the home folder of an unknown user.
    """
    return named_folder("BLENDIN_CONFIG", user_config_dir("blendin"))


def models_folder() -> Path:
    """Return the folder of imported and quantized models."""
    return home() / "models"


def model_folder(name: str) -> Path:
    """Return the folder of the model of that name; it may not exist.

    Raises:
        ModelError: the name could lead out of the folder of models.
    """
    if not NAME.match(name):
        raise ModelError(f"{name!r} is not a model name: letters, digits, '.', '_' and '-' only")
    return models_folder() / name


def is_installed(name: str) -> bool:
    """Return True if a complete model of that name is installed."""
    return looks_like_model(model_folder(name))


def looks_like_model(folder: Path) -> bool:
    """Return True if a folder has a config, a tokenizer and weights."""
    return not lacking(folder)


def lacking(folder: Path) -> list[str]:
    """Return what a folder lacks to be a model: files by name, weights by pattern."""
    missing = [file for file in REQUIRED if not (folder / file).is_file()]
    weights = any(path.is_file() for path in folder.glob(WEIGHTS))
    return missing if weights else [*missing, WEIGHTS]


def special_file(folder: Path) -> Path | None:
    """Return a special file of a model folder (a pipe, a socket or a device), or None.

    Reading it might block forever. Templates may be one folder deeper.
    """
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if path.exists() and not path.is_file() and not path.is_dir():
            return path
    return None


def size_on_disk(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(name: str) -> int:
    """Delete an installed model; return the bytes freed.

    Raises:
        ModelError: it is not installed.
    """
    folder = model_folder(name)
    if not folder.is_dir():
        raise ModelError(f"{name} is not installed; see blendin models list")
    freed = 0
    if not folder.is_symlink():
        freed = size_on_disk(folder)
        (folder / "config.json").unlink(missing_ok=True)  # partly deleted, it is not a model
    delete_tree(folder)
    return freed


def delete_tree(folder: Path) -> None:
    """Delete a folder and its content; of a link to a folder, only the link."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)
