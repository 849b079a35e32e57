"""Settings that were tuned for the weights of a pair: of no use to others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .options.settings import Settings

if TYPE_CHECKING:
    from blendin_mlx.model import Pair

# What is tuned, and what holds without it.
UNTUNED: dict[str, Any] = {"tau": None, "alpha": None, "dial": 1.0, "guide_temp": 1.0}


def weights_digest(pair: Pair) -> str:
    """Return a digest of the weights of both models; of several guides, and what each counts."""
    from blendin_mlx.prompt_cache import fingerprint

    all_of_them = "".join(map(fingerprint, (pair.base, *pair.guides)))
    if pair.others:
        all_of_them += repr(pair.weights)
    return hashlib.sha256(all_of_them.encode()).hexdigest()[:32]


def without_stale_tuning(settings: Settings, pair: Pair) -> tuple[Settings, str | None]:
    """Return the settings without those that a pair was tuned to with other weights.

    Args:
        settings: the options of the command.
        pair: as it was loaded.

    Returns:
        The settings, and a line that says so where some were left out.
    """
    from blendin_models.catalogue import entries

    entry = entries.pairs().get(settings.pair) if settings.pair is not None else None
    if entry is None or entry.tuned_for in (None, weights_digest(pair)):
        return settings, None
    stale = {
        name: plain
        for name, plain in UNTUNED.items()
        if (tuned := getattr(entry, name)) is not None and getattr(settings, name) == tuned
    }
    if not stale:
        return settings, None
    return replace(settings, **stale), (
        f"{entry.name} was tuned for other weights than these: its settings are ignored; "
        f"blendin tune --pair {entry.name} finds new ones"
    )
