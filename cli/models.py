"""``blendin models``: what is known, what is here, fetch it, remove it."""

from __future__ import annotations

import json
from typing import Any

import click

from .terminal import progress, say


@click.group()
def models() -> None:
    """List, show, fetch and remove models."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_models(as_json: bool) -> None:
    """List the pairs that are known by name, and which of their models are here."""
    from blendin_models import catalogue

    pairs = [_pair(entry) for entry in catalogue.pairs().values()]
    if as_json:
        click.echo(json.dumps(pairs, ensure_ascii=False))
        return
    for pair in pairs:
        click.echo(f"{pair['name']}  {pair['description']}")
        for role in ("base", "aligned"):
            click.echo(f"  {role:<8} {_line(pair[role])}")


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show a pair, or one model of a pair."""
    from blendin_models import catalogue

    found = catalogue.find_models(name)
    about = _pair(catalogue.pairs()[name]) if name in catalogue.pairs() else _model(found[0])
    if as_json:
        click.echo(json.dumps(about, ensure_ascii=False))
        return
    _print(about)


def _print(about: dict[str, Any], indent: str = "") -> None:
    for key, value in about.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{key}")
            _print(value, indent + "  ")
        elif value is not None:
            click.echo(f"{indent}{key:<16} {_shown(value)}")


def _shown(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


@models.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors.")
def pull(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch models, or both models of a pair."""
    from blendin_models import catalogue
    from blendin_models.install import install

    entries = [entry for name in names for entry in catalogue.find_models(name)]
    with progress(quiet) as report:
        for entry in entries:
            install(entry, report)
    for entry in entries:
        say(f"{entry.name} is ready", quiet)


@models.command()
@click.argument("name")
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors.")
def remove(name: str, quiet: bool) -> None:
    """Delete a model, or both models of a pair, from the cache."""
    from blendin_models import catalogue, store

    known = name in catalogue.pairs() or name in catalogue.models()
    here = [e.name for e in catalogue.find_models(name)] if known else [name]
    kept = [model for model in here if store.model_folder(model).is_dir()]
    for model in kept or here[:1]:
        say(f"{model} removed, {store.remove(model) / 1e6:.0f} MB freed", quiet)


def _pair(entry: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "description": entry.description,
        "base": _model(entry.base),
        "aligned": _model(entry.aligned),
    }


def _model(entry: Any) -> dict[str, Any]:
    from blendin_models import store

    installed = store.is_installed(entry.name)
    folder = store.model_folder(entry.name)
    return {
        "name": entry.name,
        "license": entry.license,
        "installed": installed,
        "path": str(folder) if installed else None,
        "bytes": store.size_on_disk(folder) if installed else None,
        "download_bytes": entry.bytes,
        "source": ", ".join(entry.packages),
    }


def _line(model: dict[str, Any]) -> str:
    state = (
        f"here, {model['bytes'] / 1e6:.0f} MB"
        if model["installed"]
        else f"not here, {model['download_bytes'] / 1e6:.0f} MB to fetch"
    )
    return f"{model['name']:<24} {state:<26} {model['license']}"
