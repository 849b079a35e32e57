"""What can be known of a model folder before any of its weights is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendin_mlx.backend.mlx import is_cpu, mx
from blendin_mlx.context_limit import context_limit
from blendin_mlx.reading.context import KV_GROUP

from ..errors import ModelError, UnsuitableError, first_line
from ..storage.local_model import Located, repair_named
from ..storage.small_files import load_json
from .config_json import check_counts, read_config
from .loader import check_folder, load_network, open_files_limit, to_float32
from .own_tokenizer import read_tokenizer
from .safetensors_headers import read_folder

KIND = re.compile(r"[\w-]+\Z")
KV_BITS = (8, 4)  # what a cache can be quantized to, the more exact first


@dataclass(frozen=True)
class CacheCost:
    """What a model's cache takes.

    Attributes:
        per_token: bytes of each token, in layers that keep all of them.
        windows: (tokens, bytes per token) of each layer that keeps only the last ones.
        fixed: bytes that do not depend on the length.
        known: False where an architecture does not tell; the rest is 0 then.
        quantized: (bits, bytes of each token) in place of ``per_token``; none where the heads are
            of a width that cannot be quantized.
    """

    per_token: int = 0
    windows: tuple[tuple[int, int], ...] = ()
    fixed: int = 0
    known: bool = True
    quantized: tuple[tuple[int, int], ...] = ()

    def bytes(self, tokens: int, kv_bits: int | None = None) -> int:
        """Bytes of the cache after that many tokens, quantized to ``kv_bits`` unless None."""
        kept = sum(min(tokens, window) * each for window, each in self.windows)
        per_token = dict(self.quantized).get(kv_bits or 0, self.per_token)
        return tokens * per_token + kept + self.fixed


@dataclass(frozen=True)
class Preflight:
    """A folder that can be loaded, and what it will take.

    Attributes:
        stored_bytes, memory_bytes: of its weights, in files and as they compute here.
        context_limit: tokens, None where the config does not say.
    """

    folder: Path
    model_type: str
    has_chat_template: bool
    context_limit: int | None
    stored_bytes: int
    memory_bytes: int
    cache: CacheCost


def inspect(folder: Path, tokenizer: bool = True) -> Preflight:
    """Check one folder without reading a weight or running any code of it.

    Args:
        tokenizer: read the tokenizer too, which takes a second where it is large.

    Raises:
        ModelError: naming the file that is missing, damaged or of a kind that cannot be loaded.

    Example:
        >>> inspect(Path("models/gemma-3-270m")).memory_bytes
    """
    check_folder(folder)
    tensors = read_folder(folder)
    config = read_config(folder)
    _check_architecture(folder / "config.json", config)
    check_counts(folder / "config.json", config, tensors)
    if tokenizer:
        read_tokenizer(folder / "tokenizer.json")
    network = _fitted(folder)
    if is_cpu():
        to_float32(network)  # planned only; the cache is then of that type too
    return Preflight(
        folder=folder,
        model_type=config["model_type"],
        has_chat_template=_has_chat_template(folder),
        context_limit=context_limit(config),
        stored_bytes=sum(tensor.end - tensor.begin for tensor in tensors.values()),
        memory_bytes=_bytes(network.parameters()),
        cache=_cache_cost(network),
    )


def inspect_located(located: Located, tokenizer: bool = True) -> Preflight:
    """Check a model that was found (see :func:`inspect`); the error says how to get it anew."""
    with repair_named(located):
        return inspect(located.folder, tokenizer)


def check_description(folder: Path) -> None:
    """Check what comes before any weight: the config, the architecture, the tokenizer.

    Raises:
        ModelError: naming the file that is damaged or of a kind that cannot be loaded.
    """
    _check_architecture(folder / "config.json", read_config(folder))
    read_tokenizer(folder / "tokenizer.json")


def _check_architecture(file: Path, config: dict[str, Any]) -> None:
    with open_files_limit():
        from mlx_lm.utils import _get_classes

    kind = config["model_type"]
    try:
        if not KIND.match(kind):  # it becomes the name of a module
            raise ValueError(kind)
        _get_classes(config)
    except Exception as error:  # an import error, a missing class, a config of odd types
        raise UnsuitableError(
            f"{file} is of a {kind!r} model, which the installed mlx-lm does not know; "
            "update mlx-lm, or choose another model"
        ) from error


def _fitted(folder: Path) -> Any:
    """The network as mlx-lm builds it, each weight only promised; names and shapes are checked."""
    try:
        return load_network(folder)[0]
    except Exception as error:  # whatever a config leads an architecture to
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ModelError(f"{folder / 'config.json'} does not fit the weights: {reason}") from error


def _has_chat_template(folder: Path) -> bool:
    """As the tokenizer will have one: not from ``chat_template.json``, which is a processor's."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.stat().st_size > 0
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return False
    settings = load_json(file)
    template = settings.get("chat_template") if isinstance(settings, dict) else None
    if isinstance(template, list):  # several by name
        named = [one for one in template if isinstance(one, dict)]
        return any(one.get("name") == "default" and one.get("template") for one in named)
    return bool(template)


def _cache_cost(network: Any) -> CacheCost:
    """Asked of the network itself: one token's pass is planned, its shapes read, none computed."""
    from mlx_lm.models.cache import make_prompt_cache

    try:
        layers = make_prompt_cache(network)
        network(mx.array([[0]]), cache=layers)
        return _sum_layers(layers)
    except Exception:  # an architecture that cannot be asked so is not refused for it
        return CacheCost(known=False)


def _sum_layers(layers: list[Any]) -> CacheCost:
    from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

    fixed, known = 0, True
    windows, plain = [], []
    for layer in layers:
        for cache in layer.caches if isinstance(layer, CacheList) else (layer,):
            if isinstance(cache, ArraysCache):
                fixed += _bytes(cache.cache)
            elif isinstance(cache, RotatingKVCache):
                windows.append((cache.max_size, _token_bytes(cache)))
            elif isinstance(cache, KVCache):
                plain.append(cache)
            else:
                known = False
    per_token = sum(map(_token_bytes, plain))
    return CacheCost(per_token, tuple(windows), fixed, known, _quantized(layers, plain))


def _quantized(layers: list[Any], plain: list[Any]) -> tuple[tuple[int, int], ...]:
    """Bytes of each token for every choice of bits, as a :class:`Context` quantizes its layers."""
    chosen = [cache for cache in plain if any(cache is layer for layer in layers)]
    parts = [part for cache in chosen for part in (cache.keys, cache.values)]
    if any(part.shape[-1] % KV_GROUP for part in parts):
        return ()
    left = sum(_token_bytes(cache) for cache in plain if not any(cache is c for c in chosen))
    return tuple((bits, left + sum(_part_bytes(part, bits) for part in parts)) for bits in KV_BITS)


def _part_bytes(part: mx.array, bits: int) -> int:
    """Of each token's keys or values: their bits, and a scale and a bias of each group."""
    numbers = part.shape[1] * part.shape[-1]
    return numbers * bits // 8 + 2 * numbers // KV_GROUP * part.dtype.size


def _token_bytes(cache: Any) -> int:
    return int(sum(part.nbytes // part.shape[2] for part in (cache.keys, cache.values)))


def _bytes(arrays: Any) -> int:
    from mlx.utils import tree_flatten

    return sum(array.nbytes for _, array in tree_flatten(arrays) if isinstance(array, mx.array))
