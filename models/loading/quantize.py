"""Weights made smaller: an unquantized model is quantized once, and the result kept."""

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

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)
# What a model folder holds besides weights and config; never code.
BESIDES = ("*.json", "*.jinja", "*.txt", "tokenizer.model")


@dataclass(frozen=True)
class Quantization:
    """How weights are made smaller.

    Args:
        bits: bits of a weight.
        group_size: weights that share a scale.

    Raises:
        ValueError: what MLX does not have.
    """

    bits: int = 4
    group_size: int = 64

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits must be one of {BITS}, not {self.bits}")
        if self.group_size not in GROUP_SIZES:
            raise ValueError(f"group size must be one of {GROUP_SIZES}, not {self.group_size}")


def quantization_of(folder: Path) -> Quantization | None:
    """How a folder that :func:`convert` made was quantized; None for any other folder.

    Raises:
        ModelError: its record cannot be read.
    """
    record = manifest.read(folder)
    try:
        return Quantization(**record.quantization) if record and record.quantization else None
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / manifest.FILE} is damaged: {first_line(error)}") from None


def converted_bytes(weights: int, besides: int, quantization: Quantization) -> int:
    """About what a quantized copy takes of weights that have 16 bits, and the files besides them.

    Each group has a scale and a bias of 16 bits; what cannot be quantized is little.
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
    """Write a quantized copy of a model folder, which appears whole or not at all.

    Args:
        source: a folder with unquantized weights.
        target: the folder to create.
        record: what to keep on record about it.
        progress: called with bytes of weights done and in all.

    Raises:
        ModelError: it cannot be loaded, quantized or written.
    """
    try:
        with building(target) as folder:
            _write(source, folder, quantization, progress)
            manifest.write(folder, record)
            shutil.rmtree(target, ignore_errors=True)  # whatever is there is no complete model
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
    with contextlib.redirect_stdout(io.StringIO()):  # it prints, where the answer belongs
        network, config = quantize_model(
            network, config, quantization.group_size, quantization.bits
        )
    evaluate_weights(network, progress)
    for pattern in BESIDES:
        for file in source.glob(pattern):
            if file.name not in ("config.json", "model.safetensors.index.json"):
                shutil.copy(file, target / file.name)
    save_model(target, network)
    write_json(target / "config.json", config)
