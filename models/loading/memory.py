"""Check that the models of a pair and their caches fit into the memory of this device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from blendin_mlx.backend.mlx import mx

from ..errors import MemoryNeededError
from ..storage.disk_space import readable
from .preflight import KV_BITS, Preflight

_SHARE = 0.9  # of the free memory; the rest is for activations and other programs
_STEPS = (32768, 16384, 8192, 4096, 2048, 1024)


@dataclass(frozen=True)
class Need:
    """Bytes of memory that models and their caches need for a number of tokens."""

    weights: int
    caches: int

    @property
    def total(self) -> int:
        """Sum of both."""
        return self.weights + self.caches


def need(models: Sequence[Preflight], tokens: int, kv_bits: int | None = None) -> Need:
    """Return the memory of models and their caches after `tokens` tokens; a folder counts once.

    So does an adapter that several of them get.
    """
    weights = {one.folder.resolve(): one.memory_bytes for one in models}
    adapters = {
        (one.folder.resolve(), one.adapter.folder): one.adapter_bytes
        for one in models
        if one.adapter is not None
    }
    held = sum(weights.values()) + sum(adapters.values())
    return Need(held, sum(one.cache.bytes(tokens, kv_bits) for one in models))


def recommended() -> int:
    """Return the bytes of memory that a program should not exceed on this device."""
    if mx.metal.is_available():
        return int(mx.device_info()["max_recommended_working_set_size"])
    import psutil

    return int(_SHARE * psutil.virtual_memory().available)


def rows_that_fit(bytes_each: int) -> int:
    """Return how many answers fit beside the loaded models, one at least.

    Args:
        bytes_each: what the caches of one answer take.
    """
    used = mx.get_active_memory() if mx.metal.is_available() else 0
    return max(1, (recommended() - used) // max(1, bytes_each))


def check_memory(
    models: Sequence[Preflight], tokens: int, force: bool = False, kv_bits: int | None = None
) -> Need:
    """Return the memory that a pair needs; raise if it does not fit.

    Args:
        models: the base, the aligned model, and a reference model if there is one.
        tokens: length of the longest conversation, in tokens.
        force: do not raise.
        kv_bits: bits that the caches are quantized to; None: not quantized.

    Raises:
        MemoryNeededError: the pair does not fit; the message has the figures and what would fit.
    """
    wanted, room = need(models, tokens, kv_bits), recommended()
    if wanted.total > room and not force:
        few = {1: "the model needs", 2: "both models need"}
        who = few.get(len(models), f"the {len(models)} models need")
        caches = "its cache" if len(models) == 1 else "their caches"
        most = wanted.total  # sets the unit of all figures
        raise MemoryNeededError(
            f"{who} {readable(wanted.weights, most)} and {caches} "
            f"{readable(wanted.caches, most)} for {tokens} tokens{_unknown(models)}, and "
            f"{readable(room, most)} are free here; "
            f"{_advice(models, tokens, kv_bits, room)}, or --force"
        )
    return wanted


def _unknown(models: Sequence[Preflight]) -> str:
    """Return a remark in brackets on caches that the figures leave out, or nothing."""
    names = dict.fromkeys(one.folder.name for one in models if not one.cache.known)
    return f" (not counting all that {' and '.join(names)} caches)" if names else ""


def _advice(models: Sequence[Preflight], tokens: int, kv_bits: int | None, room: int) -> str:
    fit = []
    if all(one.cache.quantized for one in models):
        smaller = [bits for bits in KV_BITS if kv_bits is None or bits < kv_bits]
        fit += [f"--kv-bits {n}" for n in smaller if need(models, tokens, n).total <= room][:1]
    shorter = [n for n in _STEPS if n < tokens and need(models, n, kv_bits).total <= room]
    fit += [f"{length} tokens" for length in shorter[:1]]
    if fit:
        return f"{' or '.join(fit)} would fit"
    base, *guides = models
    rest = room - need([base], min(tokens, _STEPS[-1]), kv_bits).total
    if rest <= 0 or not guides:
        return "choose a smaller base or fewer bits" if guides else "choose a smaller model"
    if len(guides) == 1:
        return f"a guide of up to {readable(rest)} would fit, or fewer bits"
    return f"others of up to {readable(rest)} together would fit, or fewer bits"


@contextmanager
def wired(count: int) -> Iterator[None]:
    """Context manager: keep `count` bytes resident on an Apple GPU; elsewhere it does nothing."""
    if not mx.metal.is_available():
        yield
        return
    before = mx.set_wired_limit(min(count, recommended()))
    try:
        yield
    finally:
        mx.synchronize()  # running kernels may still use the wired memory
        mx.set_wired_limit(before)
