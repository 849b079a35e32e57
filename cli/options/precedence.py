"""Precedence of options: the command line beats the environment, which beats config files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from .settings import DEFAULT_PAIR, Settings

_NEAREST = 3


def as_meant(settings: Settings) -> Settings:
    """Drop settings that settings of higher precedence override.

    A pair named on the command line overrides models named in a file. An option of methods that is
    set in a file or in the environment applies only to methods that accept it.
    """
    changes: dict[str, Any] = {}
    if settings.pair is not None:
        models = ("base", "aligned", "reference", "base_adapter", "aligned_adapter")
        far = [name for name in models if _nearness(name) < _nearness("pair")]
        changes |= {name: () if name == "aligned" else None for name in far}
    own = {"tau": "tau", "gate": "gate", "alpha": "alpha", "beta": "beta", "lambda_": "lambda"}
    far = [
        name
        for name, parameter in own.items()
        if getattr(settings, name) is not None and _nearness(parameter) < _NEAREST
    ]
    if far:
        from .method import lacking

        changes |= dict.fromkeys(lacking(settings.method, far))
    return replace(settings, **changes)


def _nearness(parameter: str) -> int:
    """Return the precedence of a parameter's value; the command line has the highest."""
    from click.core import ParameterSource

    order = ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, ParameterSource.ENVIRONMENT
    source = click.get_current_context().get_parameter_source(parameter)
    return order.index(source) if source in order else _NEAREST


def with_recommended(settings: Settings) -> Settings:
    """Apply the catalogue's recommendations for the pair to options that are at their default."""
    from click.core import ParameterSource

    from blendin_models.catalogue import entries

    pair = entries.pairs().get(settings.pair or DEFAULT_PAIR)
    if pair is None or settings.names_models:
        return settings
    ctx = click.get_current_context()
    unsaid = {
        name: value
        for name, value in pair.recommended.items()
        if ctx.get_parameter_source(name) is ParameterSource.DEFAULT
    }
    if of_methods := [name for name in ("tau", "alpha") if name in unsaid]:
        from .method import lacking

        for name in lacking(settings.method, of_methods):
            del unsaid[name]
    return replace(settings, **unsaid)
