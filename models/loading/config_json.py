"""Read a model's config, and validate it before the network is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError, UnsuitableError
from ..storage.small_files import load_json
from .safetensors_headers import Tensor

_LARGEST = 10_000_000  # bytes; real configs have some ten thousand
# Keys that count modules in sequence, and keys that count modules in parallel.
_LAYERS = re.compile(r"(layers?|blocks?|loops|depth|stages)\Z")
_BRANCHES = re.compile(r"(experts|heads?|groups?|heads_kv|branches)\Z")
FEW = 1000  # always allowed: quick to build, and tiny models keep the counts of large ones


def read_config(folder: Path) -> dict[str, Any]:
    """Read and validate the ``config.json`` of a model folder.

    Raises:
        ModelError: it, or ``generation_config.json``, is damaged or not a model's.
        UnsuitableError: it asks to run code of the folder.
    """
    file = folder / "config.json"
    config = _read_object(file)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} is not a model's config: it has no model_type")
    if config.get("model_file") is not None:
        raise UnsuitableError(
            f"{file} asks to run the code in {config['model_file']}; code of models is never run"
        )
    if not isinstance(config.get("text_config") or {}, dict):
        raise ModelError(f"{file} is damaged: its text_config is not an object")
    for part in (config, config.get("text_config") or {}):
        _check_numbers(file, part)
    if (generation := folder / "generation_config.json").is_file():
        _check_numbers(generation, _read_object(generation))
    return config


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's part of a config, which may describe several models."""
    part: dict[str, Any] = config.get("text_config") or config
    return part


def check_counts(file: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse counts of modules that exceed what the weights can have, for any architecture.

    Networks are built before they are compared with the weights; a huge count would take forever.

    Raises:
        ModelError: names the count.
    """
    widest = max((size for one in tensors.values() for size in one.shape), default=0)
    limits = ((_LAYERS, max(FEW, len(tensors))), (_BRANCHES, max(FEW, len(tensors), widest)))
    for key, value in _numbers(config):
        for pattern, most in limits:
            if value > most and pattern.search(key):
                raise ModelError(f"{file} does not fit the weights: {key} is {value}")


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield all integers of a config, each with its key."""
    if type(content) is int:
        yield key, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, key)


def is_quantized(folder: Path) -> bool:
    """Return True if the config of a model says that its weights are quantized.

    Raises:
        ModelError: see :func:`read_config`.
    """
    config = read_config(folder)
    keys = ("quantization", "quantization_config")
    return any(key in part for key in keys for part in (config, text_part(config)))


def _read_object(file: Path) -> dict[str, Any]:
    content = load_json(file, _LARGEST)
    if not isinstance(content, dict):
        raise ModelError(f"{file} is not a model's config: it is not a JSON object")
    return content


def _check_numbers(file: Path, content: dict[str, Any]) -> None:
    from blendin_mlx.context_limit import CONTEXT_KEYS

    for key in CONTEXT_KEYS:
        value = content.get(key)
        if isinstance(value, int) and value < 1:
            raise ModelError(f"{file} is damaged: {key} is {value}")
    ends = content.get("eos_token_id")
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(end) is int and end >= 0 for end in known):
        raise ModelError(f"{file} is damaged: eos_token_id is {ends!r}")
