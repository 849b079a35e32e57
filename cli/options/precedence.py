"""Which of several values of an option holds: the one that was set nearest to the user."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from .settings import Settings

_NEAREST = 3


def as_meant(settings: Settings) -> Settings:
    """What was set far away gives way to what was said nearby.

    A pair named on the command line comes before models named in a file. An option of methods that
    is set in a file or in the environment is for those methods that have it.
    """
    changes: dict[str, Any] = {}
    if settings.pair is not None:
        models = ("base", "aligned", "reference")
        changes |= {name: None for name in models if _nearness(name) < _nearness("pair")}
    own = {"tau": "tau", "alpha": "alpha", "beta": "beta", "lambda_": "lambda"}
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
    """How near to the user a value was set: the command line is the nearest."""
    from click.core import ParameterSource

    order = ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, ParameterSource.ENVIRONMENT
    source = click.get_current_context().get_parameter_source(parameter)
    return order.index(source) if source in order else _NEAREST


def with_recommended(settings: Settings) -> Settings:
    """What the catalogue recommends for a pair holds where nothing else was said."""
    from click.core import ParameterSource

    from blendin_models.catalogue import entries

    pair = entries.pairs().get(settings.pair or "demo")
    if pair is None or settings.base is not None or settings.aligned is not None:
        return settings
    ctx = click.get_current_context()
    unsaid = {
        name: value
        for name, value in pair.recommended.items()
        if ctx.get_parameter_source(name) is ParameterSource.DEFAULT
    }
    return replace(settings, **unsaid)
