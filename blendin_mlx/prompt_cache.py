"""Prompt caches: what the models of a pair have read, kept between answers or in a file.

The file is one safetensors file: the tokens that each model has read, the state of every layer's
cache, and as metadata fingerprints of the models and a digest of the content. A file never decides
what is built: the caches are the models' own, filled with arrays after their types and shapes were
checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .backend.mlx import mx
from .errors import PromptCacheError
from .model import LanguageModel, Pair
from .reading.context import Context
from .reading.opening import open_context
from .roles import Role, by_role

_FORMAT = "blendin prompt cache"
VERSION = "1"
_FINGERPRINT_VALUES = 32  # of each array of weights

Arrays = dict[str, mx.array]


@dataclass
class PromptCache:
    """The contexts of a pair's models; pass it again to continue from what they have read."""

    base: Context
    aligned: Context
    reference: Context | None = None
    others: tuple[Context, ...] = ()

    def contexts(self) -> dict[Role, Context]:
        """Return the contexts by role; the reference model's only if there is one."""
        return by_role(self.base, self.aligned, self.reference, self.others)


def make_prompt_cache(
    pair: Pair, *, kv_bits: int | None = None, prefill_step_size: int | None = None
) -> PromptCache:
    """Return empty contexts for the models.

    Args:
        pair: the models.
        kv_bits: see :class:`.context.Context`.
        prefill_step_size: see :class:`.context.Context`.
    """
    made = partial(open_context, kv_bits=kv_bits, prefill_step_size=prefill_step_size)
    reference = None if pair.reference is None else made(pair.reference)
    others = tuple(made(guide) for guide in pair.others)
    return PromptCache(made(pair.base), made(pair.aligned), reference, others)


def save_prompt_cache(path: Path, cache: PromptCache) -> None:
    """Write what the models have read to a file, atomically.

    Raises:
        PromptCacheError: the disk has too little room.
        OSError: the file cannot be written.

    Example:
        >>> save_prompt_cache(Path("manual.safetensors"), cache)
    """
    arrays: Arrays = {}
    metadata = {"format": _FORMAT, "version": VERSION}
    for role, context in cache.contexts().items():
        tokens, states = context.kept()
        parts = _flat(states)
        arrays[f"{role}.tokens"] = mx.array(tokens, dtype=mx.int32)
        arrays |= {f"{role}.{place}": p for place, p in parts.items() if isinstance(p, mx.array)}
        counts = {place: p for place, p in parts.items() if not isinstance(p, mx.array)}
        metadata[role] = json.dumps({"model": fingerprint(context.model), "counts": counts})
    metadata["digest"] = _digest(arrays, metadata)
    _write(path, arrays, metadata)


def load_prompt_cache(path: Path, pair: Pair, *, kv_bits: int | None = None) -> PromptCache:
    """Return the contexts that a file holds.

    Args:
        path: the file.
        pair: the models that it was made with.
        kv_bits: the quantization of the caches that it was made with.

    Raises:
        PromptCacheError: the file is damaged, was changed, or belongs to another pair, version or
            ``kv_bits``.
        OSError: the file cannot be read.

    Example:
        >>> cache = load_prompt_cache(Path("manual.safetensors"), pair)
    """
    arrays, metadata = _read(path)
    if metadata.pop("digest", None) != _digest(arrays, metadata):
        raise PromptCacheError(f"{path} was changed or damaged; remove it to have it made again")
    cache = make_prompt_cache(pair, kv_bits=kv_bits)
    for role, context in cache.contexts().items():
        try:
            _restore(role, context, arrays, metadata)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise PromptCacheError(
                f"{path} cannot be used for the {role} model: {reason}"
            ) from None
    return cache


def check_prompt_cache(path: Path) -> None:
    """Check by a file's header that it is a prompt cache of this version.

    Raises:
        PromptCacheError: it is not.
        OSError: the file cannot be read.
    """
    _header(path)


def _restore(role: str, context: Context, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Fill a context with the state saved for its role, after checking it against its own cache.

    Raises:
        KeyError, TypeError, ValueError: the state does not fit.
    """
    model = context.model
    described = json.loads(metadata[role])
    if described["model"] != fingerprint(model):
        raise ValueError(f"it was made with another model than {model.name}")
    tokens = arrays[f"{role}.tokens"]
    ids: list[int] = tokens.tolist()  # type: ignore[assignment]
    if tokens.ndim != 1 or not all(0 <= token < model.vocabulary.size for token in ids):
        raise ValueError("it has tokens that this model lacks")
    context.prefill([0])  # the model's own cache after one token shows the expected parts
    _, own = context.kept()
    known = {
        place: _part(place, part, arrays.get(f"{role}.{place}"), described["counts"], len(ids))
        for place, part in _flat(own).items()
    }
    context.restore(ids, _filled(own, known))


def _part(place: str, own: Any, array: mx.array | None, counts: Any, read: int) -> Any:
    """Return one part of a layer's state, after checking it against the part ``own``."""
    if isinstance(own, mx.array):
        if array is None or not _alike(array, own):
            raise ValueError(f"{place} is another array, as with another --kv-bits")
        return array
    value = counts[place]
    counts_tokens = own == 1 and isinstance(value, int) and 0 <= value <= read
    if value != own and not counts_tokens:
        raise ValueError(f"{place} is {value!r}")
    return value


def _alike(array: mx.array, own: mx.array) -> bool:
    """Return whether two arrays have one type and shape, but for the length of keys and values."""
    if array.dtype != own.dtype or array.ndim != own.ndim:
        return False
    sizes, others = list(array.shape), list(own.shape)
    if array.ndim == 4:  # [1, heads, length, width]
        sizes[2] = others[2] = 0
    return sizes == others


def _flat(state: Any, place: str = "") -> dict[str, Any]:
    """Return the parts of a nested state by place: ``"0.1"`` is the second of the first."""
    if not isinstance(state, list | tuple):
        return {place: state}
    parts: dict[str, Any] = {}
    for n, part in enumerate(state):
        parts |= _flat(part, f"{place}.{n}" if place else str(n))
    return parts


def _filled(state: Any, parts: Mapping[str, Any], place: str = "") -> Any:
    """Return a state of the same nesting with these parts."""
    if not isinstance(state, list | tuple):
        return parts[place]
    filled = (_filled(p, parts, f"{place}.{n}" if place else str(n)) for n, p in enumerate(state))
    return type(state)(filled)


def fingerprint(model: LanguageModel) -> str:
    """Return a digest of a model's config, its tokens' bytes, the first values of its weights, and
    the files of its adapter.

    It differs between fine-tunes and between quantizations of one model.
    """
    from mlx.utils import tree_flatten

    if model.elsewhere is not None:
        return model.elsewhere.fingerprint()
    digest = hashlib.sha256(json.dumps(model.config, sort_keys=True, default=str).encode())
    if model.adapter is not None:
        digest.update(model.adapter.sha256.encode())
    for written in model.vocabulary.token_bytes:
        digest.update(b"-" if written is None else b"%d:%b" % (len(written), written))
    weights = sorted(tree_flatten(model.network.parameters()))
    first = [array.reshape(-1)[:_FINGERPRINT_VALUES] for _, array in weights]
    mx.eval(first)
    for (name, array), values in zip(weights, first, strict=True):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(_bytes(values))
    return digest.hexdigest()


def _digest(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()


def _bytes(array: mx.array) -> bytes:
    return np.array(array.reshape(-1).view(mx.uint8)).tobytes() if array.size else b""


def _write(path: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(2, "there is no such folder", str(folder))
    number, name = tempfile.mkstemp(suffix=".safetensors", prefix=".", dir=folder)
    os.close(number)
    try:
        _save(path, name, arrays, metadata)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _save(path: Path, name: str, arrays: Arrays, metadata: dict[str, str]) -> None:
    """Write the arrays to ``name``; mlx's own error says neither the file nor the reason."""
    try:
        mx.save_safetensors(name, arrays, metadata)
    except RuntimeError:
        needed = sum(array.nbytes for array in arrays.values())
        free = shutil.disk_usage(path.parent).free
        raise PromptCacheError(
            f"{path} cannot be written: it takes {needed / 1e6:.1f} MB, and its disk has "
            f"{free / 1e6:.1f} MB free; make room, or name another file"
        ) from None


def _read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Return arrays and metadata, after checking the header."""
    metadata = _header(path)
    try:
        arrays: Any = mx.load(str(path), format="safetensors")
        mx.eval(arrays)
    except (RuntimeError, ValueError) as error:
        raise PromptCacheError(f"{path} is not a prompt cache: {error}") from None
    return dict(arrays), metadata


def _header(path: Path) -> dict[str, str]:
    """Return the metadata of a prompt cache of this version."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb"):  # a missing or unreadable file raises the usual OSError
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise PromptCacheError(f"{path} is not a prompt cache: {error}") from None
    if metadata.get("format") != _FORMAT:
        raise PromptCacheError(f"{path} is not a prompt cache")
    if metadata.get("version") != VERSION:
        raise PromptCacheError(
            f"{path} is a prompt cache of version {metadata.get('version')}, this is {VERSION}; "
            "remove it to have it made again"
        )
    return metadata
