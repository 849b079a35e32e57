"""Check a model folder before any of its weights is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blendin_mlx.backend.mlx import is_cpu, mx
from blendin_mlx.context_limit import context_limit
from blendin_mlx.reading.cache_layers import KV_GROUP

from ..errors import ModelError, UnsuitableError, first_line
from ..storage.local_model import LocalModel, repair_named
from ..storage.small_files import load_json
from .adapters import Adapter, add_layers, read_adapter
from .config_json import check_counts, read_config
from .loader import check_folder, load_network, open_files_limit, prepare_for_cpu
from .own_tokenizer import read_tokenizer
from .safetensors_headers import read_folder

_KIND = re.compile(r"[\w-]+\Z")
KV_BITS = (8, 4)  # bits that a cache can be quantized to, the more precise first


@dataclass(frozen=True)
class CacheCost:
    """Memory of a model's KV cache.

    Attributes:
        per_token: bytes per token, in layers that keep all tokens.
        windows: (tokens, bytes per token) of each layer that keeps only the last tokens.
        fixed: bytes that do not depend on the length.
        known: False if the size cannot be determined; the other fields are 0 then.
        quantized: (bits, bytes per token), to be used in place of ``per_token``; empty if the heads
            have a width that cannot be quantized.
    """

    per_token: int = 0
    windows: tuple[tuple[int, int], ...] = ()
    fixed: int = 0
    known: bool = True
    quantized: tuple[tuple[int, int], ...] = ()

    def bytes(self, tokens: int, kv_bits: int | None = None) -> int:
        """Return the bytes after `tokens` tokens, quantized to ``kv_bits`` unless None."""
        kept = sum(min(tokens, window) * each for window, each in self.windows)
        per_token = dict(self.quantized).get(kv_bits or 0, self.per_token)
        return tokens * per_token + kept + self.fixed

    def shared_by(self, machines: int) -> CacheCost:
        """Return the cost on one of several machines that share the heads."""
        return replace(
            self,
            per_token=self.per_token // machines,
            windows=tuple((window, each // machines) for window, each in self.windows),
            fixed=self.fixed // machines,
            quantized=tuple((bits, each // machines) for bits, each in self.quantized),
        )


@dataclass(frozen=True)
class Preflight:
    """A model folder that passed all checks, and the memory it needs.

    Attributes:
        folder: the model folder.
        model_type: the architecture, as the config names it.
        has_chat_template: True if its tokenizer has a chat template.
        context_limit: longest context in tokens, None if the config does not say.
        stored_bytes: bytes of its weights in files.
        memory_bytes: bytes of its weights in memory, in the type used on this device.
        cache: memory of its KV cache.
        adapter: the adapter that it gets, None if it gets none.
        adapter_bytes: bytes of the adapter's weights in memory.
    """

    folder: Path
    model_type: str
    has_chat_template: bool
    context_limit: int | None
    stored_bytes: int
    memory_bytes: int
    cache: CacheCost
    adapter: Adapter | None = None
    adapter_bytes: int = 0


def inspect(folder: Path, tokenizer: bool = True) -> Preflight:
    """Check a folder without reading a weight or running its code.

    Args:
        folder: the model folder.
        tokenizer: read the tokenizer too, which takes a second if it is large.

    Raises:
        ModelError: names the file that is missing, damaged or of an unsupported kind.

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
    network = fitted(folder)
    return Preflight(
        folder=folder,
        model_type=config["model_type"],
        has_chat_template=_has_chat_template(folder),
        context_limit=context_limit(config),
        stored_bytes=sum(tensor.end - tensor.begin for tensor in tensors.values()),
        memory_bytes=bytes_of(network.parameters()),
        cache=_cache_cost(network),
    )


def inspect_located(located: LocalModel, tokenizer: bool = True) -> Preflight:
    """Check a located model (see :func:`inspect`); the error says how to repair it.

    Raises:
        PairError: its adapter does not belong to it.
    """
    with repair_named(located):
        found = inspect(located.folder, tokenizer)
    if located.adapter is None:
        return found
    adapter = read_adapter(located.adapter)
    network = fitted(located.folder)
    add_layers(network, adapter, located.name)
    return replace(
        found, adapter=adapter, adapter_bytes=bytes_of(network.parameters()) - found.memory_bytes
    )


def check_description(folder: Path) -> None:
    """Check the files besides the weights: the config, the architecture, the tokenizer.

    Raises:
        ModelError: names the file that is damaged or of an unsupported kind.
    """
    _check_architecture(folder / "config.json", read_config(folder))
    read_tokenizer(folder / "tokenizer.json")


def _check_architecture(file: Path, config: dict[str, Any]) -> None:
    with open_files_limit():
        from mlx_lm.utils import _get_classes

    kind = config["model_type"]
    try:
        if not _KIND.match(kind):  # used as a module name
            raise ValueError(kind)
        _get_classes(config)
    except Exception as error:  # an import error, a missing class, wrong types in the config
        raise UnsuitableError(
            f"{file} is of a {kind!r} model, which the installed mlx-lm does not support; "
            "update mlx-lm, or choose another model"
        ) from error


def fitted(folder: Path) -> Any:
    """Build the network lazily; mlx-lm checks the names and shapes of its parameters."""
    try:
        network = load_network(folder)[0]
    except Exception as error:  # an architecture may raise anything for a wrong config
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ModelError(f"{folder / 'config.json'} does not fit the weights: {reason}") from error
    if is_cpu():
        prepare_for_cpu(network)  # lazily; it sets the type of the cache too
    return network


def _has_chat_template(folder: Path) -> bool:
    """Return True if the tokenizer will have one; ``chat_template.json`` is for processors only."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.stat().st_size > 0
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return False
    settings = load_json(file)
    template = settings.get("chat_template") if isinstance(settings, dict) else None
    if isinstance(template, list):  # several named templates
        named = [one for one in template if isinstance(one, dict)]
        return any(one.get("name") == "default" and one.get("template") for one in named)
    return bool(template)


def _cache_cost(network: Any) -> CacheCost:
    """Determine the cache size from the shapes of a lazy pass over one token; none is computed."""
    from mlx_lm.models.cache import make_prompt_cache

    try:
        layers = make_prompt_cache(network)
        network(mx.array([[0]]), cache=layers)
        return _sum_layers(layers)
    except Exception:  # the architecture does not allow it; the model may still work
        return CacheCost(known=False)


def _sum_layers(layers: list[Any]) -> CacheCost:
    from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

    fixed, known = 0, True
    windows, plain = [], []
    for layer in layers:
        for cache in layer.caches if isinstance(layer, CacheList) else (layer,):
            if isinstance(cache, ArraysCache):
                fixed += bytes_of(cache.cache)
            elif isinstance(cache, RotatingKVCache):
                windows.append((cache.max_size, _token_bytes(cache)))
            elif isinstance(cache, KVCache):
                plain.append(cache)
            else:
                known = False
    per_token = sum(map(_token_bytes, plain))
    return CacheCost(per_token, tuple(windows), fixed, known, _quantized(layers, plain))


def _quantized(layers: list[Any], plain: list[Any]) -> tuple[tuple[int, int], ...]:
    """Return (bits, bytes per token) for `KV_BITS`, as a :class:`Context` quantizes its layers."""
    chosen = [cache for cache in plain if any(cache is layer for layer in layers)]
    parts = [part for cache in chosen for part in (cache.keys, cache.values)]
    if any(part.shape[-1] % KV_GROUP for part in parts):
        return ()
    left = sum(_token_bytes(cache) for cache in plain if not any(cache is c for c in chosen))
    return tuple((bits, left + sum(_part_bytes(part, bits) for part in parts)) for bits in KV_BITS)


def _part_bytes(part: mx.array, bits: int) -> int:
    """Return the bytes of a token's keys or values: the bits, and a scale and bias per group."""
    numbers = part.shape[1] * part.shape[-1]
    return numbers * bits // 8 + 2 * numbers // KV_GROUP * part.dtype.size


def _token_bytes(cache: Any) -> int:
    return int(sum(part.nbytes // part.shape[2] for part in (cache.keys, cache.values)))


def bytes_of(arrays: Any) -> int:
    """Return the bytes of all arrays in a tree."""
    from mlx.utils import tree_flatten

    return sum(array.nbytes for _, array in tree_flatten(arrays) if isinstance(array, mx.array))
