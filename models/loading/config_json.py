"""What a model's config says, found usable before anything is built of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError, UnsuitableError
from ..storage.small_files import load_json
from .safetensors_headers import Tensor

_LARGEST = 10_000_000  # bytes; lists of layers included, configs have some ten thousand
# Keys of how many modules follow each other, and of how many stand side by side.
LAYERS = re.compile(r"(layers?|blocks?|loops|depth|stages)\Z")
BRANCHES = re.compile(r"(experts|heads?|groups?|heads_kv|branches)\Z")
FEW = 1000  # that many are built in a moment, and tiny models keep the counts of large ones


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a model folder.

    Raises:
        ModelError: it, or ``generation_config.json``, is damaged or no model's.
    """
    file = folder / "config.json"
    config = _read_object(file)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} is no model's config: it names no model_type")
    if config.get("model_file") is not None:
        raise UnsuitableError(
            f"{file} asks to run the code in {config['model_file']}; that never runs"
        )
    if not isinstance(config.get("text_config") or {}, dict):
        raise ModelError(f"{file} is damaged: its text_config is no object")
    for part in (config, config.get("text_config") or {}):
        _check_numbers(file, part)
    if (generation := folder / "generation_config.json").is_file():
        _check_numbers(generation, _read_object(generation))
    return config


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """What a config says of the language model, which may be one of several."""
    part: dict[str, Any] = config.get("text_config") or config
    return part


def check_counts(file: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse counts of modules that the weights cannot have, whatever architecture names them so.

    Networks are built before they are compared with the weights; that many would take for ever.

    Raises:
        ModelError: naming the count.
    """
    widest = max((size for one in tensors.values() for size in one.shape), default=0)
    limits = ((LAYERS, max(FEW, len(tensors))), (BRANCHES, max(FEW, len(tensors), widest)))
    for key, value in _numbers(config):
        for pattern, most in limits:
            if value > most and pattern.search(key):
                raise ModelError(f"{file} does not fit the weights: {key} is {value}")


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """All whole numbers of a config, with the key that each stands under."""
    if type(content) is int:
        yield key, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, key)


def is_quantized(folder: Path) -> bool:
    """Whether the config of a model says that its weights are quantized.

    Raises:
        ModelError: as :func:`read_config`.
    """
    config = read_config(folder)
    keys = ("quantization", "quantization_config")
    return any(key in part for key in keys for part in (config, text_part(config)))


def _read_object(file: Path) -> dict[str, Any]:
    content = load_json(file, _LARGEST)
    if not isinstance(content, dict):
        raise ModelError(f"{file} is no model's config: it is no JSON object")
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
