"""From a folder to a model in memory.

Only safetensors are read and no code of a model folder ever runs. On a CPU, where quantized
products are slow, weights are dequantized to float32; elsewhere they stay as they are.
"""

from __future__ import annotations

import glob
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blendin_mlx.backend.mlx import is_cpu, mx
from blendin_mlx.model import LanguageModel

from ..errors import ModelError, first_line
from ..progress import Advance, Progress
from ..storage.paths import lacking, special_file
from .config_json import read_config
from .own_tokenizer import load_tokenizer


def load_model(
    folder: Path,
    name: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """Load the model and tokenizer of a folder, all of its weights into memory.

    Args:
        name: for messages and traces; the folder's by default.
        revision: which revision of a hub repo the folder holds.
        progress: called with what is going on, bytes done and bytes in all.

    Raises:
        ModelError: the folder is missing, is no model, or cannot be loaded.

    Example:
        >>> load_model(Path("models/gemma-3-270m"), name="gemma-3-270m")
    """
    model = open_model(folder, name, revision)
    with _explained(folder):
        evaluate_weights(model.network, progress and partial(progress, f"loading {model.name}"))
    return model


def open_model(folder: Path, name: str | None = None, revision: str | None = None) -> LanguageModel:
    """The model of a folder with its tokenizer; no weight is read before it is needed.

    Raises:
        ModelError: as :func:`load_model`.
    """
    check_folder(folder)
    with _explained(folder):
        network, config = load_network(folder)
        tokenizer = load_tokenizer(folder, config.get("eos_token_id"))
        if is_cpu():
            to_float32(network)
    path = folder.resolve()
    return LanguageModel(network, tokenizer, config, name or path.name, str(path), revision)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Whatever a library raises over a folder becomes a line that names it."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ModelError(f"{folder} cannot be loaded: {reason}") from error


def load_network(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The network of a folder, its weights not read yet, and its config."""
    with open_files_limit():
        from mlx_lm.utils import load_model

    with _plain_path(folder) as path:
        network, config = load_model(path, lazy=True)
    return network, config


@contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """Context manager: a path to a folder without glob characters.

    mlx-lm makes a pattern of the whole path, in which they do not stand for themselves.
    """
    if glob.escape(str(folder)) == str(folder):
        yield folder
        return
    with TemporaryDirectory(prefix="blendin-") as place:
        link = Path(place, "model")
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield link


@contextmanager
def open_files_limit() -> Iterator[None]:
    """mlx-lm sets both limits of open files when imported, which a system may refuse.

    Within this, the soft limit alone is raised, as far as the hard one lets it.
    """
    change = resource.setrlimit

    def raise_soft(which: int, limits: tuple[int, int]) -> None:
        soft, hard = resource.getrlimit(which)
        wanted = limits[0] if hard == resource.RLIM_INFINITY else min(limits[0], hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(ValueError, OSError):
                change(which, (wanted, hard))

    resource.setrlimit = raise_soft
    try:
        yield
    finally:
        resource.setrlimit = change


def to_float32(network: Any) -> None:
    """Dequantize and widen all weights of a network, lazily."""
    from mlx_lm.utils import dequantize_model

    network.set_dtype(mx.float32)  # scales first, so that weights are dequantized in float32
    dequantize_model(network)


def evaluate_weights(network: Any, progress: Advance | None = None) -> None:
    """Evaluate the weights one by one, so that Ctrl-C need not wait for all of them."""
    from mlx.utils import tree_flatten

    weights = [array for _, array in tree_flatten(network.parameters())]
    total = sum(array.nbytes for array in weights)
    done = 0
    for array in weights:
        mx.eval(array)
        done += array.nbytes
        if progress:
            progress(done, total)


def check_folder(folder: Path) -> None:
    """Refuse what is no model folder, before anything heavy is imported.

    Raises:
        ModelError: naming the folder and what it lacks.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}")
    if special := special_file(folder):
        raise ModelError(f"{special} is a pipe, a socket or a device, not a file; remove it")
    if missing := lacking(folder):
        raise ModelError(f"{folder} is no model folder: it lacks {', '.join(missing)}")
    read_config(folder)
