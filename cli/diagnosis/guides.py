"""Find and check the guides of ``blendin diagnose`` before the first is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..options.method import make_method, with_reference
from ..options.settings import Settings
from ..options.types import WeightedModel
from ..pair_loading import pair_of, spec_of
from ..terminal.interrupts import unswallowed_interrupt
from ..terminal.output import say
from ..terminal.progress import progress


@dataclass(frozen=True)
class Candidate:
    """A guide to measure: the name to show, and its settings."""

    name: str
    settings: Settings


def find(settings: Settings, guides: Sequence[str], quiet: bool = False) -> list[Candidate]:
    """Return the guide of the settings and further ones for the same base; fetch missing models.

    A folder that is named twice is measured once.

    Args:
        settings: the options; they name the base and may name a guide.
        guides: names of further guides.
        quiet: show no progress and no notes.

    Raises:
        click.UsageError: no pair is named, or a method lacks its reference model.
        ModelError: a model is unknown, missing or damaged.
        MemoryNeededError: a pair does not fit the memory.
        PairError: a guide has no chat template.
    """
    asked = _settings_of_each(settings, guides)
    for one in asked:
        make_method(one)
    with unswallowed_interrupt(), progress(quiet) as report:
        from blendin_models.fetching.resolve import locate_all
        from blendin_models.pair import check_pair

        specs = [spec_of(one) for one in asked]
        # In one go, so that an unknown name is refused before any download.
        locate_all(list(dict.fromkeys(name for spec in specs for name in spec.names())), report)
        checked = [check_pair(spec, report) for spec in specs]
    found = {}
    for one, pair in zip(asked, checked, strict=True):
        title = " + ".join(guide.title for guide in pair.guides)
        weights = [asked.weight for asked in one.aligned] or [1.0]
        shares = tuple(weight / sum(weights) for weight in weights)
        key = tuple((guide.folder.resolve(), guide.adapter) for guide in pair.guides), shares
        if key in found:
            say(f"{title} is named twice and measured once", quiet)
            continue
        found[key] = (title, one)
    titles = [title for title, _ in found.values()]
    return [
        Candidate(_printable(title if titles.count(title) == 1 else _asked_for(one, title)), one)
        for title, one in found.values()
    ]


def _asked_for(settings: Settings, title: str) -> str:
    """Return the aligned models as they were asked for."""
    return " + ".join(one.spelled for one in settings.aligned) or title


def _settings_of_each(settings: Settings, guides: Sequence[str]) -> list[Settings]:
    """Return the settings of each guide: the given ones, if they name a guide, and the others."""
    named = bool(settings.aligned or settings.aligned_adapter or settings.pair)
    own = not guides or settings.base is None or named
    first = [settings] if own else []
    if own:
        pair_of(settings)
    base, adapter = settings.base, settings.base_adapter
    if base is None:
        base, adapter = spec_of(settings).parts()[0]
    alike = replace(settings, pair=None, base=base, base_adapter=adapter, aligned_adapter=None)
    others = [replace(alike, aligned=(WeightedModel(guide),)) for guide in guides]
    return [with_reference(one, [one.method]) for one in first + others]


def _printable(name: str) -> str:
    """Return a name that can be encoded, whatever the bytes of its folder's name."""
    return name.encode(errors="replace").decode()
