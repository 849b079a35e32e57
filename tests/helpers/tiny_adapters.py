"""Adapters of tiny models, written by mlx-lm's own functions, and models with them fused in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blendin_mlx.backend.mlx import mx

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"


def write_adapter(
    folder: Path,
    model: Path,
    *,
    kind: str = "lora",
    seed: int = 3,
    rank: int = 4,
    scale: float = 8.0,
    keys: Sequence[str] | None = None,
    num_layers: int = -1,
    size: float = 0.3,
) -> Path:
    """Write an adapter of a model as ``mlx_lm.lora`` does, with random weights.

    Args:
        folder: where to.
        model: the model's folder.
        size: of the weights of every second matrix; 0 as before the first step of training.
    """
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    parameters: dict[str, Any] = {"rank": rank, "scale": scale, "dropout": 0.5}
    if keys is not None:
        parameters["keys"] = list(keys)
    network, _ = load_model(model)
    network.freeze()
    mx.random.seed(seed)
    linear_to_lora_layers(network, num_layers, parameters, kind == "dora")
    weights = dict(tree_flatten(network.trainable_parameters()))
    for name, array in weights.items():
        if name.endswith("lora_b"):
            weights[name] = size * mx.random.normal(array.shape)
        if name.endswith(".m") and size:
            weights[name] = array * (1 + 0.5 * mx.random.uniform(shape=array.shape))
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / WEIGHTS), weights)
    config = {"fine_tune_type": kind, "num_layers": num_layers, "lora_parameters": parameters}
    others = {"model": str(model), "seed": 0, "optimizer_config": {"adam": {}}}
    (folder / CONFIG).write_text(json.dumps({**others, **config}, indent=4))
    return folder


def write_fused(folder: Path, model: Path, adapter: Path) -> Path:
    """Write the model that has an adapter fused into it, as ``mlx_lm.fuse`` does."""
    from mlx.utils import tree_flatten, tree_unflatten
    from mlx_lm.utils import load_adapters, load_model

    network = load_adapters(load_model(model)[0], str(adapter))
    fused = [(name, one.fuse()) for name, one in network.named_modules() if hasattr(one, "fuse")]
    network.update_modules(tree_unflatten(fused))
    shutil.copytree(model, folder)
    weights = dict(tree_flatten(network.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder
