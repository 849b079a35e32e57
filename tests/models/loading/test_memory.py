"""Models and caches are compared with the memory of the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blendin_models.errors import MemoryNeededError
from blendin_models.loading import memory
from blendin_models.loading.preflight import CacheCost, Preflight


def report(name: str, size: int) -> Preflight:
    return Preflight(Path(name), "llama", True, 4096, size, size, CacheCost(per_token=1_000_000))


BASE, ALIGNED = report("base", 8_000_000_000), report("aligned", 1_000_000_000)


def test_memory_needed_by_a_pair():
    assert memory.need([BASE, ALIGNED], 1000) == memory.Need(9_000_000_000, 2_000_000_000)
    assert memory.need([BASE, BASE], 1000).weights == 8_000_000_000


@pytest.mark.parametrize(
    ("room", "advice"),
    [
        (12_000_000_000, "1024 tokens would fit"),
        (9_100_000_000, "a guide of up to 76.0 MB would fit, or fewer bits"),
        (5_000_000_000, "choose a smaller base or fewer bits"),
    ],
)
def test_a_refusal_has_the_figures_and_what_would_fit(monkeypatch, room, advice):
    monkeypatch.setattr(memory, "recommended", lambda: room)
    with pytest.raises(MemoryNeededError) as raised:
        memory.check_memory([BASE, ALIGNED], 2000)
    line = str(raised.value)
    assert "need 9.0 GB and their caches 4.0 GB for 2000 tokens" in line
    assert f"{room / 1e9:.1f} GB are free here" in line
    assert advice in line
    assert memory.check_memory([BASE, ALIGNED], 2000, force=True).total == 13_000_000_000


@pytest.mark.parametrize(
    ("room", "kv_bits", "advice"),
    [
        (12_000_000_000, None, "; --kv-bits 8 or 1024 tokens would fit, "),
        (10_200_000_000, None, "; --kv-bits 4 would fit, "),
        (10_200_000_000, 8, "; --kv-bits 4 or 1024 tokens would fit, "),
        (9_500_000_000, 4, "; 1024 tokens would fit, "),
    ],
)
def test_a_quantized_cache_is_advised_where_it_fits(monkeypatch, room, kv_bits, advice):
    cost = CacheCost(per_token=1_000_000, quantized=((8, 312_500), (4, 187_500)))
    base, aligned = replace(BASE, cache=cost), replace(ALIGNED, cache=cost)
    monkeypatch.setattr(memory, "recommended", lambda: room)
    with pytest.raises(MemoryNeededError) as raised:
        memory.check_memory([base, aligned], 2000, kv_bits=kv_bits)
    assert advice in str(raised.value)


def test_a_reference_model_is_counted_once(monkeypatch):
    """The base itself may be the reference, if the guide was trained from it."""
    other = report("reference", 500_000_000)
    assert memory.need([BASE, ALIGNED, other], 1000) == memory.Need(9_500_000_000, 3_000_000_000)
    assert memory.need([BASE, ALIGNED, BASE], 1000) == memory.Need(9_000_000_000, 3_000_000_000)
    monkeypatch.setattr(memory, "recommended", lambda: 9_100_000_000)
    refused = "the 3 models need 9.5 GB .* others of up to 0.1 GB together would fit"
    with pytest.raises(MemoryNeededError, match=refused):
        memory.check_memory([BASE, ALIGNED, other], 1000)


def test_the_device_recommends_something():
    assert memory.recommended() > 0
