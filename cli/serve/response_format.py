"""The form that an answer shall have, as a request says it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..options.settings import Settings
from .errors import refused
from .fields import Fields


def with_format(settings: Settings, wanted: Fields) -> Settings:
    """Return the settings with the form that an answer shall have.

    Args:
        settings: what holds otherwise.
        wanted: the fields of ``response_format``.

    Raises:
        ApiError: 400 naming a field.
    """
    kind = wanted.text("type") or "text"
    schema: Any = None
    if kind == "json_object":
        schema = {"type": "object"}
    elif kind == "json_schema":
        described = wanted.fields("json_schema")
        schema = described.take("schema")
        if not isinstance(schema, dict):
            raise refused("response_format.json_schema.schema", "must be a JSON schema")
        for name in ("name", "description"):
            described.text(name)
        described.boolean("strict")  # it is always held to the schema
        described.finish()
    elif kind != "text":
        raise refused("response_format.type", "must be text, json_object or json_schema")
    wanted.finish()
    if schema is None:
        return settings
    if settings.stop:
        raise refused("stop", "cannot be used with a JSON response_format: the JSON is the end")
    return replace(settings, json_schema=schema)
