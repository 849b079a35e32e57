"""Override options after the start: in a line of ``run``, or with ``/set`` in a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from .settings import Settings
from .types import Alpha, DraftTokens

_NUMBERS = (click.types.IntParamType, click.types.FloatParamType, Alpha, DraftTokens)
# These cannot be changed, because the models and what depends on them are loaded once.
_FIXED = (
    *("pair", "base", "aligned", "reference"),
    *("context", "kv_bits", "prompt_cache", "draft", "num_draft_tokens", "force", "wired_limit"),
)


def overridden(
    settings: Settings,
    given: Mapping[str, Any],
    began: Settings | None = None,
    ctx: click.Context | None = None,
) -> Settings:
    """Return the settings with some options changed.

    Args:
        settings: the current settings.
        given: values by long option name; None resets an option to its value at the start.
        began: the settings at the start, if they differ from `settings`.
        ctx: the command's context; the current one, which is that of a thread, unless given.

    Raises:
        ValueError: a name is not an option that can be changed, or a value has the wrong type.
        click.ClickException: the option refuses a value.
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
        name = {"lambda": "lambda_"}.get(key, option.name) if option else None
        if name is None or name in _FIXED or name not in Settings.__dataclass_fields__:
            raise ValueError(f"{key!r} is not an option that can be changed here")
        assert option is not None
        if name == "json_schema" and isinstance(value, dict):  # the schema itself
            values[name] = value
        elif value is None:
            values[name] = getattr(began or settings, name)
        else:
            values[name] = option.process_value(ctx, as_given(option, key, value))
    return replace(settings, **values)


def as_given(option: click.Parameter, key: str, value: Any) -> Any:
    """Convert a value of JSON or TOML for an option; a single text may stand for a list.

    Raises:
        ValueError: the value has the wrong type.
    """
    if option.multiple:
        several = value if isinstance(value, list) else [value]
        if all(isinstance(one, str) for one in several):
            return several
        raise ValueError(f"{key!r} must be a text or a list of texts")
    is_flag = isinstance(option, click.Option) and option.is_flag
    if is_flag and isinstance(value, bool | str):
        return value
    may_be_number = isinstance(option.type, (*_NUMBERS, click.Choice))
    kinds = (str, int, float) if may_be_number else str
    if is_flag or isinstance(value, bool) or not isinstance(value, kinds):
        single = "a text or a number" if may_be_number else "a text"
        raise ValueError(f"{key!r} must be {'true or false' if is_flag else single}")
    return value if isinstance(option.type, _NUMBERS) else str(value)
