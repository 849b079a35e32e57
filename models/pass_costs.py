"""Measure the cost of a pair's forward passes once per machine, and store it."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blendin_mlx.backend import mlx
from blendin_mlx.drafting.pass_costs import Costs, measure, reads_meanwhile

from .storage import paths
from .storage.small_files import read_json, replace_file

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel, Pair

FILE = "costs.json"


def kept_costs(pair: Pair) -> Costs:
    """Return the pass costs of a pair, measuring them if this machine has no record.

    Example:
        >>> Drafter("auto", costs=kept_costs(pair))
    """
    file, key = paths.home() / FILE, _key(pair)
    kept = _read(file)
    try:
        base = tuple((int(n), float(s)) for n, s in kept[key]["base"])
        return Costs(base, kept[key]["guide"], reads_meanwhile(pair))
    except (KeyError, TypeError, ValueError):
        costs = measure(pair)
    kept = {**_read(file), key: {"base": costs.base, "guide": costs.guide}}
    replace_file(file, json.dumps(kept))
    return costs


def _key(pair: Pair) -> str:
    """Return a key of everything that the costs depend on: models, machines, BLAS, threads, MLX."""
    models = (_identity(model) for model in (pair.base, *pair.guides))
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "")
    machine = platform.node(), os.cpu_count(), mlx.BLAS.name, threads, version("mlx")
    return " ".join(map(str, (*models, *machine)))


def _identity(model: LanguageModel) -> str:
    plain = f"{model.path or model.name}@{model.revision}"
    adapted = "" if model.adapter is None else f"+{model.adapter.sha256}"
    return plain + adapted + (f" on {model.elsewhere.name}" if model.elsewhere else "")


def _read(file: Path) -> dict[str, Any]:
    kept = read_json(file)
    return kept if isinstance(kept, dict) else {}
