"""Self-contained web pages: templates rendered so that no text can become markup."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from .safe_text import harmless


def render(package: str, template: str, **values: Any) -> str:
    """Return a page rendered from a template, a file of a package.

    Args:
        package: the package.
        template: the name of the file.
        values: the variables of the template.

    Example:
        >>> render("blendin_cli.trace.commands", "page.html", runs=[])
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((files(package) / template).read_text("utf-8")).render(values)


def clean(text: object) -> str:
    """Return text that any page can hold."""
    return harmless(str(text)).encode(errors="replace").decode()
