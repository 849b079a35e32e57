"""Load the model of a folder.

Only safetensors are read, and code in a model folder is never run. On a CPU, where quantized
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
from .dequantize import dequantize_network
from .output_columns import keep_output_columns, read_output_columns
from .own_tokenizer import load_tokenizer


def open_model(folder: Path, name: str | None = None, revision: str | None = None) -> LanguageModel:
    """Open the model and tokenizer of a folder; weights are loaded lazily.

    Args:
        folder: the model folder.
        name: a name for messages and traces; the folder's name by default.
        revision: the revision of the hub repo that the folder holds, for traces.

    Raises:
        ModelError: the folder is missing, is not a model, or cannot be loaded.

    Example:
        >>> open_model(Path("models/gemma-3-270m"), name="gemma-3-270m")
    """
    check_folder(folder)
    with _explained(folder):
        network, config = load_network(folder)
        tokenizer = load_tokenizer(folder, config.get("eos_token_id"))
        if is_cpu():
            prepare_for_cpu(network)
    path = folder.resolve()
    return LanguageModel(network, tokenizer, config, name or path.name, str(path), revision)


def read_weights(model: LanguageModel, progress: Progress | None = None) -> None:
    """Read all weights of an opened model into memory."""
    evaluate_weights(model.network, progress and partial(progress, f"loading {model.name}"))


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Context manager: turn errors of libraries into a one-line `ModelError` with the folder."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ModelError(f"{folder} cannot be loaded: {reason}") from error


def load_network(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Build the network of a folder with lazy weights; return it with its config."""
    with open_files_limit():
        from mlx_lm.utils import load_model

    with _plain_path(folder) as path:
        network, config = load_model(path, lazy=True)
    return network, config


@contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """Context manager: a path to a folder without glob characters.

    mlx-lm uses the path in a glob pattern without escaping it.
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
    """Context manager: only raise the soft limit of open files, up to the hard limit.

    mlx-lm sets both limits when it is imported, which a system may refuse.
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


def prepare_for_cpu(network: Any) -> None:
    """Convert all weights of a network to float32, its output layer's to columns, lazily."""
    network.set_dtype(mx.float32)  # scales first, so that weights are dequantized in float32
    keep_output_columns(network)
    dequantize_network(network)


def evaluate_weights(network: Any, progress: Advance | None = None) -> None:
    """Evaluate the weights one by one, so that Ctrl-C need not wait for all of them.

    Args:
        network: the network, with lazy weights.
        progress: called with the bytes evaluated so far and the total.
    """
    from mlx.utils import tree_flatten

    weights = [array for _, array in tree_flatten(network.parameters())]
    total = sum(array.nbytes for array in weights)
    read_output_columns(network)
    done = 0
    for array in weights:
        mx.eval(array)
        done += array.nbytes
        if progress:
            progress(done, total)


def check_folder(folder: Path) -> None:
    """Raise if a folder is not a model folder; nothing heavy is imported.

    Raises:
        ModelError: names the folder and the missing or damaged file.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}")
    if special := special_file(folder):
        raise ModelError(f"{special} is a pipe, a socket or a device, not a file; remove it")
    if missing := lacking(folder):
        raise ModelError(f"{folder} is not a model folder: it lacks {', '.join(missing)}")
    read_config(folder)
