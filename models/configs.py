"""What a model's config says, found usable before anything is built of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import ModelError, UnsuitableError


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


def is_quantized(folder: Path) -> bool:
    """Whether the config of a model says that its weights are quantized.

    Raises:
        ModelError: as :func:`read_config`.
    """
    config = read_config(folder)
    keys = ("quantization", "quantization_config")
    return any(key in part for key in keys for part in (config, text_part(config)))


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is no valid JSON: {error}") from None
    except RecursionError:
        raise ModelError(f"{file} is no valid JSON: it nests too deeply") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} is no model's config: it is no JSON object")
    return content


def _check_numbers(file: Path, content: dict[str, Any]) -> None:
    from blendin_mlx.limits import CONTEXT_KEYS

    for key in CONTEXT_KEYS:
        value = content.get(key)
        if isinstance(value, int) and value < 1:
            raise ModelError(f"{file} is damaged: {key} is {value}")
    ends = content.get("eos_token_id")
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(end) is int and end >= 0 for end in known):
        raise ModelError(f"{file} is damaged: eos_token_id is {ends!r}")
