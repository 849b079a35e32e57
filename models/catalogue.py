"""The pairs that are known by name: one TOML file each, in ``pairs/``."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from .errors import ModelError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class ModelEntry:
    """One model of a pair, and the packages that carry its GGUF file.

    Attributes:
        name: the name it is kept and asked for by.
        file, bytes, sha256: the GGUF file and what it must be.
        packages: package requirements whose parts, joined in order, are the file.
    """

    name: str
    license: str
    file: str
    bytes: int
    sha256: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class PairEntry:
    """A base model and the aligned model that guides it."""

    name: str
    description: str
    base: ModelEntry
    aligned: ModelEntry

    @property
    def models(self) -> tuple[ModelEntry, ModelEntry]:
        """Both models, the base first."""
        return self.base, self.aligned


@cache
def pairs() -> dict[str, PairEntry]:
    """All known pairs by name."""
    found = {}
    for file in sorted(files(__package__).joinpath("pairs").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            name = file.name.removesuffix(".toml")
            found[name] = _pair(name, tomllib.loads(file.read_text(encoding="utf-8")))
    return found


def _pair(name: str, content: dict[str, Any]) -> PairEntry:
    base, aligned = (
        ModelEntry(**{**content[role], "packages": tuple(content[role]["packages"])})
        for role in ("base", "aligned")
    )
    return PairEntry(name, content["description"], base, aligned)


def models() -> dict[str, ModelEntry]:
    """All models of all known pairs by name."""
    return {model.name: model for pair in pairs().values() for model in pair.models}


def find_pair(name: str) -> PairEntry:
    """The pair of that name.

    Raises:
        ModelError: there is none; the message names what is near.
    """
    if name not in pairs():
        raise ModelError(f"no pair is called {name!r}{hint(name, pairs())}")
    return pairs()[name]


def find_models(name: str) -> tuple[ModelEntry, ...]:
    """The models that a name stands for: both of a pair, or a single one.

    Raises:
        ModelError: neither a pair nor a model has that name.
    """
    if name in pairs():
        return pairs()[name].models
    if name in models():
        return (models()[name],)
    raise ModelError(f"no pair or model is called {name!r}{hint(name, {**pairs(), **models()})}")


def hint(name: str, known: dict[str, Any]) -> str:
    """How a message about an unknown name goes on: what is near, else what there is."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
