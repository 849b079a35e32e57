"""Quantize an unquantized model once, and store the result."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, first_line
from ..progress import Advance
from ..storage import manifest
from ..storage.atomic_folders import building
from ..storage.small_files import write_json

_BITS = (2, 3, 4, 5, 6, 8)
_GROUP_SIZES = (32, 64, 128)
# The files of a model folder besides weights and config; no code.
_BESIDES = ("*.json", "*.jinja", "*.txt", "tokenizer.model")


@dataclass(frozen=True)
class Quantization:
    """Parameters of MLX's affine quantization.

    Attributes:
        bits: bits per weight.
        group_size: number of weights that share a scale and a bias.

    Raises:
        ValueError: MLX does not support the value.
    """

    bits: int = 4
    group_size: int = 64

    def __post_init__(self) -> None:
        if self.bits not in _BITS:
            raise ValueError(f"bits must be one of {_BITS}, not {self.bits}")
        if self.group_size not in _GROUP_SIZES:
            raise ValueError(f"group size must be one of {_GROUP_SIZES}, not {self.group_size}")


def quantization_of(folder: Path) -> Quantization | None:
    """Return the quantization of a folder written by :func:`convert`; None for other folders.

    Raises:
        ModelError: its manifest is damaged.
    """
    record = manifest.read(folder)
    try:
        return Quantization(**record.quantization) if record and record.quantization else None
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / manifest.FILE} is damaged: {first_line(error)}") from None


def converted_bytes(weights: int, besides: int, quantization: Quantization) -> int:
    """Estimate the bytes of a quantized copy of a model with 16-bit weights.

    Each group has a scale and a bias of 16 bits; weights that cannot be quantized add little.

    Args:
        weights: bytes of the unquantized weights.
        besides: bytes of the other files.
        quantization: the quantization of the copy.
    """
    bits = quantization.bits + 2 * 16 / quantization.group_size
    return int(1.05 * weights * min(1.0, bits / 16)) + besides


def convert(
    source: Path,
    target: Path,
    quantization: Quantization,
    record: manifest.Manifest,
    progress: Advance | None = None,
) -> None:
    """Write a quantized copy of a model folder, atomically.

    Args:
        source: a folder with unquantized weights.
        target: the folder to create.
        quantization: bits and group size.
        record: the manifest to write.
        progress: called with the bytes of weights done and the total.

    Raises:
        ModelError: the model cannot be loaded, quantized or written.
    """
    try:
        with building(target) as folder:
            _write(source, folder, quantization, progress)
            manifest.write(folder, record)
            shutil.rmtree(target, ignore_errors=True)  # what is there is not a complete model
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{source} cannot be quantized: {first_line(error)}") from error


def _write(
    source: Path, target: Path, quantization: Quantization, progress: Advance | None
) -> None:
    from mlx_lm.utils import quantize_model, save_model

    from .loader import evaluate_weights, load_network

    network, config = load_network(source)
    with contextlib.redirect_stdout(io.StringIO()):  # stdout is for answers, and it prints
        network, config = quantize_model(
            network, config, quantization.group_size, quantization.bits
        )
    evaluate_weights(network, progress)
    for pattern in _BESIDES:
        for file in source.glob(pattern):
            if file.name not in ("config.json", "model.safetensors.index.json"):
                shutil.copy(file, target / file.name)
    save_model(target, network)
    write_json(target / "config.json", config)
