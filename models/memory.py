"""Whether a pair and its caches fit into the memory of this device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blendin_mlx.backend import mx

from .errors import MemoryNeededError
from .preflight import KV_BITS, Preflight

SHARE = 0.9  # of the free memory; the rest is for activations and everyone else
STEPS = (32768, 16384, 8192, 4096, 2048, 1024)


@dataclass(frozen=True)
class Need:
    """Bytes that a pair takes for so many tokens."""

    weights: int
    caches: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.weights + self.caches


def need(base: Preflight, aligned: Preflight, tokens: int, kv_bits: int | None = None) -> Need:
    """What both models and both caches take after that many tokens; one folder counts once."""
    same = base.folder.resolve() == aligned.folder.resolve()
    weights = base.memory_bytes + (0 if same else aligned.memory_bytes)
    return Need(weights, sum(one.cache.bytes(tokens, kv_bits) for one in (base, aligned)))


def recommended() -> int:
    """Bytes that a program had better not exceed on this device."""
    if mx.metal.is_available():
        return int(mx.device_info()["max_recommended_working_set_size"])
    import psutil

    return int(SHARE * psutil.virtual_memory().available)


def check_memory(
    base: Preflight,
    aligned: Preflight,
    tokens: int,
    force: bool = False,
    kv_bits: int | None = None,
) -> Need:
    """Refuse a pair that does not fit, with the figures and with what would fit.

    Args:
        tokens: how long the longest conversation will be.
        force: go on all the same.
        kv_bits: what both caches are quantized to, None for not at all.

    Raises:
        MemoryNeededError: it does not fit.
    """
    wanted, room = need(base, aligned, tokens, kv_bits), recommended()
    if wanted.total > room and not force:
        raise MemoryNeededError(
            f"both models need {_gb(wanted.weights)} and their caches {_gb(wanted.caches)} for "
            f"{tokens} tokens, and {_gb(room)} are free here; "
            f"{_advice(base, aligned, tokens, kv_bits, room)}, or --force"
        )
    return wanted


def _advice(
    base: Preflight, aligned: Preflight, tokens: int, kv_bits: int | None, room: int
) -> str:
    fit = []
    if base.cache.quantized and aligned.cache.quantized:
        smaller = [bits for bits in KV_BITS if kv_bits is None or bits < kv_bits]
        enough = [n for n in smaller if need(base, aligned, tokens, n).total <= room]
        fit += [f"--kv-bits {bits}" for bits in enough[:1]]
    shorter = [n for n in STEPS if n < tokens and need(base, aligned, n, kv_bits).total <= room]
    fit += [f"{length} tokens" for length in shorter[:1]]
    if fit:
        return f"{' or '.join(fit)} would fit"
    rest = room - base.memory_bytes - base.cache.bytes(min(tokens, STEPS[-1]), kv_bits)
    if rest > 0:
        return f"a guide of up to {_gb(rest)} would fit, or fewer bits"
    return "choose a smaller base or fewer bits"


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


@contextmanager
def wired(count: int) -> Iterator[None]:
    """Within this, so many bytes stay resident on an Apple GPU; elsewhere nothing changes."""
    if not mx.metal.is_available():
        yield
        return
    before = mx.set_wired_limit(min(count, recommended()))
    try:
        yield
    finally:
        mx.synchronize()  # what still runs may use what was wired
        mx.set_wired_limit(before)
