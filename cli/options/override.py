"""Options that are given after the start: in a line of ``run``, or with ``/set`` in a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from .settings import Settings
from .types import Alpha, DraftTokens

NUMBERS = (click.types.IntParamType, click.types.FloatParamType, Alpha, DraftTokens)
# What stays: the models are loaded once, and so is what depends on them.
FIXED = (
    *("pair", "base", "aligned", "reference"),
    *("context", "kv_bits", "prompt_cache", "draft", "num_draft_tokens", "force", "wired_limit"),
)


def overridden(
    settings: Settings,
    given: Mapping[str, Any],
    began: Settings | None = None,
    ctx: click.Context | None = None,
) -> Settings:
    """The settings with some options changed, by their long names.

    Args:
        given: the values; None means what the command began with.
        began: the settings that it began with, if they are others.
        ctx: the command's context; the current one, which is that of a thread, unless given.

    Raises:
        ValueError: a name that is no option, one that stays, or a value that is none.
        click.ClickException: a value that the option does not take.
    """
    ctx = ctx or click.get_current_context()
    options = {
        spelled.lstrip("-").replace("-", "_"): parameter
        for parameter in ctx.command.params
        for spelled in parameter.opts
    }
    values: dict[str, Any] = {}
    for key, value in given.items():
        option = options.get(key.replace("-", "_"))
        name = {"lambda": "bonus"}.get(key, option.name) if option else None
        if name is None or name in FIXED or name not in Settings.__dataclass_fields__:
            raise ValueError(f"{key!r} is no option that can be changed here")
        assert option is not None
        if name == "json_schema" and isinstance(value, dict):  # the schema itself
            values[name] = value
        elif value is None:
            values[name] = getattr(began or settings, name)
        else:
            values[name] = option.process_value(ctx, as_given(option, key, value))
    return replace(settings, **values)


def as_given(option: click.Parameter, key: str, value: Any) -> Any:
    """A value of JSON or TOML as an option takes it: one text stands for a list of one.

    Raises:
        ValueError: a table or a list where a single value belongs, or a truth where none does.
    """
    if option.multiple:
        several = value if isinstance(value, list) else [value]
        if all(isinstance(one, str) for one in several):
            return several
        raise ValueError(f"{key!r} must be a text or a list of texts")
    is_flag = isinstance(option, click.Option) and option.is_flag
    if is_flag and isinstance(value, bool | str):
        return value
    may_be_number = isinstance(option.type, (*NUMBERS, click.Choice))
    kinds = (str, int, float) if may_be_number else str
    if is_flag or isinstance(value, bool) or not isinstance(value, kinds):
        single = "a text or a number" if may_be_number else "a text"
        raise ValueError(f"{key!r} must be {'true or false' if is_flag else single}")
    return value if isinstance(option.type, NUMBERS) else str(value)
