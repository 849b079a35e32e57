"""Imports run only downwards between rooms, and no two modules import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"blendin_mlx": "blendin_mlx", "blendin_models": "models", "blendin_cli": "cli"}

# From the lowest to the highest: a room, or a module beside the rooms, may import what stands
# before it in its own list, and of the packages before its own whatever it likes.
ORDER = {
    "blendin_mlx": (
        *("errors", "step", "input_text", "limited_process", "base_templates"),
        *("backend", "chat_template", "blend", "tokens", "context_limit", "roles", "model"),
        *("reading", "answer_statistics", "prompts", "prompt_cache", "distributed"),
        *("drafting", "decoding", "generation", "batch", "inspection", "scoring", "trace"),
    ),
    "blendin_models": (
        *("errors", "progress", "storage", "gguf", "loading", "hub", "catalogue"),
        *("inventory", "fetching", "pass_costs", "kept_phi", "pair_spec", "pair"),
        *("two_machines", "split_base"),
    ),
    "blendin_cli": (
        *("errors", "terminal", "options", "machines", "pair_loading", "prompting", "tuned"),
        *("session", "whole_answers", "side_by_side", "habits", "json_lines"),
        *("generate", "compare", "run", "score", "bench", "doctor", "config", "reference_docs"),
        *("chat", "diagnosis", "tune", "eval", "models", "trace", "serve", "main", "__main__"),
    ),
}
PACKAGES = list(ORDER)


def modules() -> dict[str, Path]:
    """Every module of ours, by its name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = (package, *path.relative_to(ROOT / folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(module: str) -> Iterator[str]:
    """The modules of ours that one imports anywhere, be it in a function or for its types."""
    parts = module.split(".")
    package = parts if MODULES[module].name == "__init__.py" else parts[:-1]
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                if full in MODULES or source in MODULES:
                    yield full if full in MODULES else source


IMPORTS = {module: set(imported(module)) - {module} for module in MODULES}


def place(module: str) -> tuple[int, int]:
    """How high a module stands: the place of its package, and that of its room in there."""
    package, *rest = module.split(".")
    order = ORDER[package]
    return PACKAGES.index(package), order.index(rest[0]) if rest else len(order)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_its_place(package: str) -> None:
    rooms = {module.split(".")[1] for module in MODULES if module.startswith(f"{package}.")}
    assert rooms == set(ORDER[package])
    assert len(ORDER[package]) == len(rooms)


def test_imports_run_only_downwards() -> None:
    upwards = [
        f"{module} imports {other}"
        for module in MODULES
        for other in sorted(IMPORTS[module])
        if place(other) > place(module)
    ]
    assert upwards == []


def test_no_import_runs_in_a_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))


def test_mlx_is_imported_where_the_blas_is_chosen_and_nowhere_before():
    """A module that imports it by itself, on its own import, would bind the slow BLAS."""
    early = set()
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if {name.split(".")[0] for name in names} & {"mlx", "mlx_lm"}:
                early.add(module)
    assert early == {"blendin_mlx.backend.mlx"}
