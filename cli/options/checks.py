"""Validate options, and the files that they name, before any model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .settings import Settings


def check_usable(settings: Settings) -> None:
    """Refuse options that cannot work, before any model is loaded.

    Raises:
        click.UsageError: options exclude each other, or a file cannot be written.
        PromptCacheError: a file exists and is not a prompt cache.
    """
    from blendin_mlx.prompt_cache import check_prompt_cache

    if settings.json_schema is not None and settings.stop:
        raise click.UsageError("--stop cannot be used with --json-schema: the JSON is the end")
    path = settings.prompt_cache
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise click.UsageError(f"--prompt-cache {path} is not a regular file")
    if path.exists():
        check_prompt_cache(path)
    elif not path.absolute().parent.is_dir():
        raise click.UsageError(f"--prompt-cache {path}: there is no folder {path.parent}")


def read_schema(given: Path | dict[str, Any] | None) -> Any:
    """Validate a JSON schema, given as a file or as an object; return None if there is none.

    Raises:
        click.UsageError: it is not UTF-8, not JSON, or not a supported schema.
    """
    from blendin_mlx.decoding.json_constraint import check_schema
    from blendin_mlx.errors import SchemaError
    from blendin_mlx.input_text import parsed_json, read_text

    if given is None:
        return None
    where = f"--json-schema {given}" if isinstance(given, Path) else "json_schema"
    try:
        schema = parsed_json(read_text(given)) if isinstance(given, Path) else given
        check_schema(schema)
    except SchemaError as error:
        raise click.UsageError(f"{where}: {error}") from None
    except ValueError as error:
        raise click.UsageError(f"{where} is not JSON: {error}") from None
    return schema
