"""Options that are given after the start: in a line of ``run``, or with ``/set`` in a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from .options import Settings

# What stays: the models are loaded once, and so is what depends on them.
FIXED = (
    *("pair", "base", "aligned", "reference"),
    *("kv_bits", "prompt_cache", "draft", "num_draft_tokens", "force", "wired_limit"),
)


def overridden(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """The settings with some options changed, by their long names.

    Raises:
        ValueError: a name that is no option, or one that stays.
        click.ClickException: a value that the option does not take.
    """
    ctx = click.get_current_context()
    options = {
        spelled.lstrip("-").replace("-", "_"): parameter
        for parameter in ctx.command.params
        for spelled in parameter.opts
    }
    values = {}
    for key, value in given.items():
        option = options.get(key.replace("-", "_"))
        name = {"lambda": "bonus"}.get(key, option.name) if option else None
        if name is None or name in FIXED or name not in Settings.__dataclass_fields__:
            raise ValueError(f"{key!r} is no option that can be changed here")
        assert option is not None
        values[name] = option.process_value(ctx, value)
    return replace(settings, **values)
