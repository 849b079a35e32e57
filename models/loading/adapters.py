"""LoRA and DoRA adapters in mlx-lm's format: small changes to the layers of a model.

An adapter is a folder with ``adapter_config.json`` and ``adapters.safetensors``. It may come from a
stranger: all that can be checked is checked before the network is built or a weight is read. The
adapted network shares every array of the plain one, so that both together take the memory of one.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blendin_mlx.backend.mlx import is_cpu, mx
from blendin_mlx.errors import PairError
from blendin_mlx.model import AdapterFiles, LanguageModel

from ..errors import ModelError, UnsuitableError, first_line
from ..storage.local_model import with_adapter
from ..storage.manifest import sha256
from ..storage.paths import special_file
from ..storage.small_files import load_json
from .safetensors_headers import Tensor, read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
_LARGEST = 10_000_000  # bytes of a config; real ones have a thousand
_LEAVES = ("lora_a", "lora_b", "m")  # parameters of mlx-lm's adapted layers
_FLOATS = ("F16", "BF16", "F32")


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, validated as far as that goes without its model.

    Attributes:
        folder: its folder, absolute.
        dora: True if the magnitudes of the weights are learned too (DoRA).
        num_layers: how many of the last layers are adapted; 0 or less means all.
        rank: rank of each change.
        scale: factor of each change.
        keys: paths of the modules that are adapted, None if all linear ones and embeddings are.
        tensors: what its weights file holds, by name.
    """

    folder: Path
    dora: bool
    num_layers: int
    rank: int
    scale: float
    keys: tuple[str, ...] | None
    tensors: Mapping[str, Tensor]


def read_adapter(folder: Path) -> Adapter:
    """Read the description of an adapter and the header of its weights.

    Raises:
        ModelError: names the file that is missing or damaged.
        UnsuitableError: it is of another kind or format.

    Example:
        >>> read_adapter(Path("adapters")).rank
        8
    """
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}")
    if special := special_file(folder):
        raise ModelError(f"{special} is a pipe, a socket or a device, not a file; remove it")
    config = load_json(folder / CONFIG, _LARGEST)
    if not isinstance(config, dict):
        raise ModelError(f"{folder / CONFIG} is damaged: it is not a JSON object")
    _check_kind(folder / CONFIG, config)
    tensors = read_header(folder / WEIGHTS)
    _check_types(folder / WEIGHTS, tensors)
    return _described(folder, config, tensors)


def _check_kind(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse adapters of other programs, and whole fine-tunes."""
    if "peft_type" in config:
        raise UnsuitableError(f"{file} is PEFT's; only adapters in mlx-lm's format are read")
    kind = config.get("fine_tune_type", "lora")
    if kind == "full":
        raise UnsuitableError(
            f"{file} is of a full fine-tune, not of an adapter; fuse it into its model with "
            "mlx_lm.fuse, and name the result as a model"
        )
    if kind not in ("lora", "dora"):
        raise UnsuitableError(f"{file}: fine_tune_type is {kind!r}; lora and dora are known")


def _check_types(file: Path, tensors: Mapping[str, Tensor]) -> None:
    if not tensors:
        raise ModelError(f"{file} is damaged: it has no weights")
    for tensor in tensors.values():
        if tensor.dtype not in _FLOATS:
            raise ModelError(f"{file} is damaged: {tensor.name!r} is of type {tensor.dtype}")


def _described(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adapter:
    """Return the adapter of a config whose values are of the right types and sizes."""
    found = config.get("lora_parameters")
    parameters: dict[str, Any] = found if isinstance(found, dict) else {}
    layers, rank = config.get("num_layers"), parameters.get("rank")
    scale, keys = parameters.get("scale"), parameters.get("keys")
    widest = max((size for one in tensors.values() for size in one.shape), default=0)
    valid = {
        "num_layers": type(layers) is int,
        "lora_parameters": isinstance(found, dict),
        "rank": type(rank) is int and 1 <= rank <= widest,
        "scale": type(scale) in (int, float) and abs(scale or 0.0) <= sys.float_info.max,
        "keys": keys is None
        or (isinstance(keys, list) and all(isinstance(key, str) for key in keys)),
    }
    given = {**parameters, **config}
    for name in (name for name, is_valid in valid.items() if not is_valid):
        shown = repr(given.get(name))
        raise ModelError(f"{folder / CONFIG} is damaged: {name} is {shown[:80]}")
    return Adapter(
        folder,
        config.get("fine_tune_type") == "dora",
        int(layers or 0),
        int(rank or 0),
        float(scale or 0.0),
        None if keys is None else tuple(dict.fromkeys(keys)),
        tensors,
    )


def add_layers(network: Any, adapter: Adapter, name: str) -> None:
    """Replace the layers that an adapter changes by adapted ones, lazily; no weight is read.

    Args:
        network: the network; its modules are replaced in place.
        adapter: what to add.
        name: the model's name, for the message.

    Raises:
        PairError: the adapter does not belong to this model.
    """
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers

    parameters: dict[str, Any] = {"rank": adapter.rank, "scale": adapter.scale, "dropout": 0.0}
    if adapter.keys is not None:
        parameters["keys"] = set(adapter.keys)
    before = {place for place, _ in tree_flatten(network.parameters())}
    try:
        linear_to_lora_layers(network, adapter.num_layers, parameters, adapter.dora)
    except Exception as error:  # layers that cannot be adapted; mlx-lm raises anything
        raise _foreign(adapter, name, first_line(error)) from error
    after = tree_flatten(network.parameters())
    own = {p: tuple(a.shape) for p, a in after if p not in before and p.split(".")[-1] in _LEAVES}
    _check_fit(adapter, own, name)


def _check_fit(adapter: Adapter, own: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raise unless the adapter's tensors are those of the adapted layers.

    Raises:
        PairError: names the tensor, or the key, that does not fit.
    """
    for tensor in adapter.tensors.values():
        if tensor.name not in own:
            raise _foreign(
                adapter, name, f"{tensor.name!r} is not one of the layers it would adapt"
            )
        if tensor.shape != own[tensor.name]:
            wanted = f"{tensor.shape}, and {own[tensor.name]} would fit"
            raise _foreign(adapter, name, f"{tensor.name!r} has the shape {wanted}")
    if missing := sorted(set(own) - set(adapter.tensors)):
        raise _foreign(adapter, name, f"it has no {missing[0]!r}")
    modules = [place.rpartition(".")[0] for place in own]
    for key in adapter.keys or ():
        if not any(f".{place}".endswith(f".{key}") for place in modules):
            raise _foreign(adapter, name, f"its key {key!r} matches no layer")


def _foreign(adapter: Adapter, name: str, reason: str) -> PairError:
    return PairError(f"the adapter {adapter.folder} does not belong to {name}: {reason}")


def adapted(model: LanguageModel, adapter: Adapter) -> LanguageModel:
    """Return a model with an adapter; it shares all arrays with the given one, which stays.

    The arrays of the model stay lazy; those of the adapter are read.

    Raises:
        ModelError: the adapter's weights cannot be read, or are not finite.
        PairError: the adapter does not belong to this model.

    Example:
        >>> guide = adapted(base, read_adapter(Path("adapters")))
    """
    network = sharing_copy(model.network)
    add_layers(network, adapter, model.name)
    network.load_weights(list(_weights(adapter).items()), strict=False)
    return replace(
        model,
        network=network,
        name=with_adapter(model.name, adapter.folder),
        adapter=AdapterFiles(str(adapter.folder), adapter_digest(adapter.folder)),
    )


def adapter_digest(folder: Path) -> str:
    """Return the SHA-256 of an adapter's files.

    Raises:
        ModelError: a file is missing, or is not a regular one.
    """
    files = folder / CONFIG, folder / WEIGHTS
    for file in files:
        if not file.is_file():
            raise ModelError(f"there is no file {file}")
    return sha256(*files)


def sharing_copy(network: Any) -> Any:
    """Return a copy of a network's modules that hold the very same arrays."""
    from mlx.utils import tree_flatten

    # deepcopy takes what this names as copied already.
    known = {id(value): value for _, value in tree_flatten(network) if isinstance(value, mx.array)}
    return copy.deepcopy(network, known)


def _weights(adapter: Adapter) -> dict[str, mx.array]:
    """Read the weights of an adapter, of the type that products are computed in on this device.

    Raises:
        ModelError: they cannot be read, or are not finite.
    """
    file = adapter.folder / WEIGHTS
    try:
        read: Any = mx.load(str(file), format="safetensors")
        weights = {k: v.astype(mx.float32) if is_cpu() else v for k, v in read.items()}
        finite = mx.stack([mx.isfinite(array).all() for array in weights.values()]).tolist()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {first_line(error)}") from error
    for name, is_finite in zip(weights, finite, strict=True):  # type: ignore[arg-type]
        if not is_finite:
            raise ModelError(f"{file} is damaged: {name!r} has values that are not finite")
    return weights
