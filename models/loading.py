"""From a folder to a model in memory.

Only safetensors are read and no code of a model folder ever runs. On a CPU, where quantized
products are slow, weights are dequantized to float32; elsewhere they stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blendin_mlx.backend import is_cpu, mx
from blendin_mlx.model import LanguageModel

from .errors import ModelError, first_line
from .store import REQUIRED, looks_like_model


def load_model(folder: Path, name: str | None = None, revision: str | None = None) -> LanguageModel:
    """Load the model and tokenizer of a folder; the weights are read when first used.

    Raises:
        ModelError: the folder is missing, is no model, or cannot be loaded.

    Example:
        >>> load_model(Path("models/gemma-3-270m"), name="gemma-3-270m")
    """
    check_folder(folder)
    from mlx_lm.tokenizer_utils import load as load_tokenizer
    from mlx_lm.utils import load_model as load_network

    try:
        network, config = load_network(folder, lazy=True)
        # Said outright: left open, transformers may ask on the terminal whether to run code.
        tokenizer = load_tokenizer(
            folder, {"trust_remote_code": False}, eos_token_ids=config.get("eos_token_id")
        )
    except Exception as error:
        raise ModelError(f"{folder} cannot be loaded: {first_line(error)}") from error
    if is_cpu():
        _to_float32(network)
    return LanguageModel(
        network, tokenizer, config, name or folder.name, str(folder.resolve()), revision
    )


def _to_float32(network: Any) -> None:
    from mlx_lm.utils import dequantize_model

    network.set_dtype(mx.float32)  # scales first, so that weights are dequantized in float32
    dequantize_model(network)


def check_folder(folder: Path) -> None:
    """Refuse what is no model folder, before anything heavy is imported.

    Raises:
        ModelError: naming the folder and what it lacks.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}")
    if not looks_like_model(folder):
        missing = [file for file in REQUIRED if not (folder / file).is_file()]
        missing += [] if any(folder.glob("model*.safetensors")) else ["model*.safetensors"]
        raise ModelError(f"{folder} is no model folder: it lacks {', '.join(missing)}")
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is no valid JSON: {error}") from None
