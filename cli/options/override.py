"""Override options after the start: in a line of ``run``, or with ``/set`` in a chat."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from .settings import Settings
from .types import AutoOr

# Parameters of ollama, and the options that are meant.
PARAMETERS = {
    "temperature": "temp",
    "num_predict": "max-tokens",
    "num_ctx": "context",
    "repeat_penalty": "repetition-penalty",
    "repeat_last_n": "repetition-context-size",
}
_NUMBERS = (click.types.IntParamType, click.types.FloatParamType, AutoOr)
# These cannot be changed, because the models and what depends on them are loaded once.
_FIXED = (
    *("pair", "base", "aligned", "reference", "base_adapter", "aligned_adapter"),
    *("context", "kv_bits", "prompt_cache", "draft", "num_draft_tokens", "force", "wired_limit"),
    "shard",
)


def overridden(
    settings: Settings, given: Mapping[str, Any], began: Settings | None = None
) -> Settings:
    """Return the settings with some options changed.

    Args:
        settings: the current settings.
        given: values by long option name; None resets an option to its value at the start.
        began: the settings at the start, if they differ from `settings`.

    Raises:
        ValueError: a name is not an option that can be changed, or a value has the wrong type.
        click.ClickException: the option refuses a value.
    """
    ctx = click.get_current_context()
    options = changeable()
    values: dict[str, Any] = {}
    for key, value in given.items():
        option = options.get(key.replace("-", "_"))
        if option is None:
            raise ValueError(f"{key!r} is not an option that can be changed here{_near(key)}")
        name = _field(option)
        if name == "json_schema" and isinstance(value, dict):  # the schema itself
            values[name] = value
        elif value is None:
            values[name] = getattr(began or settings, name)
        else:
            values[name] = option.process_value(ctx, as_given(option, key, value))
    return replace(settings, **values)


def changeable() -> dict[str, click.Parameter]:
    """Return the options of this command that may change after the start, by their long names."""
    return {
        spelled[2:].replace("-", "_"): parameter
        for parameter in click.get_current_context().command.params
        for spelled in parameter.opts
        if spelled.startswith("--")
        and _field(parameter) in Settings.__dataclass_fields__
        and _field(parameter) not in _FIXED
    }


def _field(option: click.Parameter) -> str:
    name = option.name or ""
    return {"lambda": "lambda_"}.get(name, name)


def _near(key: str) -> str:
    """Return a hint at the option that may be meant, or at the start, where alone it is given."""
    key = PARAMETERS.get(key, key).replace("-", "_")
    option = f"--{key.replace('_', '-')}"
    near = [known for known in changeable() if key.startswith(known)]
    given = click.get_current_context().command.params
    if not near and any(option in one.opts for one in given):
        return f"; give it at the start: {option}"
    near = near or difflib.get_close_matches(key, changeable(), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


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
