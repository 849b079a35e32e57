"""``blendin doctor``: report versions, backend, memory and models, and what is missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Any

import click

from .options.settings import DEFAULT_PAIR
from .terminal.output import tell

_PACKAGES = (
    "blendin-mlx",
    "mlx",
    "mlx-lm",
    "transformers",
    "tokenizers",
    "huggingface-hub",
    "gguf",
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def doctor(as_json: bool) -> None:
    """Report versions, backend, BLAS, memory, folders, and what to install.

    \b
    Examples:
      blendin doctor
      blendin doctor --json | jq .advice
    """
    report = examine()
    if as_json:
        tell(json.dumps(report, ensure_ascii=False))
        return
    for key, value in report.items():
        if isinstance(value, dict):
            tell(key)
            width = max(map(len, value))
            for name, entry in value.items():
                tell(f"  {name:<{width}}  {entry}")
        elif isinstance(value, list):
            for line in value or ["nothing is missing"]:
                tell(f"{key:<10} {line}")
        else:
            tell(f"{key:<10} {value}")


def examine() -> dict[str, Any]:
    """Return the report as a JSON object."""
    import psutil

    from blendin_mlx.backend import mlx
    from blendin_models.catalogue import entries
    from blendin_models.inventory import listing
    from blendin_models.storage import paths
    from blendin_models.storage.disk_space import readable

    blas = mlx.BLAS
    memory = psutil.virtual_memory()
    demo = entries.find_pair(DEFAULT_PAIR).models
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: _version(name) for name in _PACKAGES},
        "backend": f"MLX on the {'CPU' if mlx.is_cpu() else 'GPU'}",
        "blas": f"{blas.name}{f', {blas.path}' if blas.path else ''}",
        "memory": f"{readable(memory.total)}, {readable(memory.available)} available",
        "cache": str(paths.home()),
        "models": {
            **{model.name: f"blendin models pull {model.name}" for model in demo},
            **{kept.name: _state(kept) for kept in listing.imported()},
        },
        "advice": _advice(blas.notice),
    }


def _state(kept: Any) -> str:
    if kept.problem is None:
        return "here"
    from blendin_models.catalogue import entries
    from blendin_models.storage.local_model import repair

    again = kept.name in entries.models()
    commands = repair(kept.name, kept.name) if again else f"blendin models remove {kept.name}"
    return f"damaged, {kept.problem}; {commands}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _advice(blas_notice: str | None) -> list[str]:
    """Return advice on what to install or change, a line each."""
    lines = [blas_notice] if blas_notice else []
    missing = [name for name in _PACKAGES if _version(name) == "not installed"]
    lines += [f"pip install {name}" for name in missing]
    if _version("pip") == "not installed":
        lines.append("python -m ensurepip: the demo pair is fetched with pip")
    return lines
