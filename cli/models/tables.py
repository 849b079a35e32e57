"""Descriptions of pairs and models for ``blendin models``: as JSON objects, and as lines."""

from __future__ import annotations

import json
from typing import Any

from ..terminal.layout import in_bytes
from ..terminal.output import tell

# Keys of the JSON objects that a person reads differently.
_LABELS = {
    "bytes": "on disk",
    "stored_bytes": "weights on disk",
    "recommended_bytes": "may be used",
}
_BYTES_OF_A_WEIGHT = {"cpu": 4.0, "gpu": 0.6}  # float32; 4 bits with their scales


def about_pair(entry: Any, here: Any = None) -> dict[str, Any]:
    """Describe a pair of the catalogue.

    Args:
        entry: the pair's catalogue entry.
        here: the models on this machine (``listing.everything()``), if already listed.
    """
    from blendin_mlx.backend.mlx import is_cpu
    from blendin_models.inventory import listing
    from blendin_models.loading.memory import recommended

    here = listing.everything() if here is None else here
    base, aligned = (about_model(model, here) for model in entry.models)
    weight = _BYTES_OF_A_WEIGHT["cpu" if is_cpu() else "gpu"]
    memory = int(weight * sum(model.parameters for model in entry.models))
    missing = [model["download_bytes"] for model in (base, aligned) if not model["installed"]]
    return {
        "name": entry.name,
        "description": entry.description,
        "note": entry.note,
        "recommended": entry.recommended,
        "reference": entry.reference,
        "one_tokenizer": entry.one_tokenizer,
        "installed": not missing,
        "download_bytes": sum(missing),
        "memory_bytes": memory,
        "fits": memory < recommended(),
        "base": base,
        "aligned": aligned,
    }


def about_model(entry: Any, here: Any = None) -> dict[str, Any]:
    """Describe a model of the catalogue."""
    from blendin_models.errors import ModelError
    from blendin_models.inventory import lookup

    try:
        kept = lookup.used(entry.name, here)
    except ModelError:
        kept = None
    return {
        "name": entry.name,
        "license": entry.license,
        "gated": entry.gated,
        "installed": kept is not None and kept.problem is None,
        "problem": kept.problem if kept else None,
        "path": str(kept.folder) if kept else None,
        "bytes": kept.bytes if kept else None,
        "revision": kept.revision if kept else None,
        "download_bytes": entry.bytes,
        "source": entry.origin,
    }


def about_check(checked: Any, need: Any, related: Any, tokens: int, room: int) -> dict[str, Any]:
    """Describe a checked pair; `room` is the memory that may be used, in bytes."""
    sides = zip(("base", "aligned"), checked.models, checked.reports, strict=True)
    return {
        "vocabularies": related.kind,
        "shared_tokens": round(related.shared, 4),
        "tokens": tokens,
        "weights_bytes": need.weights,
        "caches_bytes": need.caches,
        "caches_known": all(report.cache.known for report in checked.reports),
        "recommended_bytes": room,
        "fits": need.total <= room,
        **{
            role: {
                "name": located.name,
                "path": str(located.folder),
                "model_type": report.model_type,
                "chat_template": report.has_chat_template,
                "context_limit": report.context_limit,
                "stored_bytes": report.stored_bytes,
                "memory_bytes": report.memory_bytes,
            }
            for role, located, report in sides
        },
    }


def kept_models(here: Any) -> list[dict[str, Any]]:
    """Describe the models on this machine that are not in the catalogue."""
    from blendin_models.catalogue import entries

    known = entries.models()
    return [about_kept(kept) for kept in here if kept.name not in known]


def about_kept(kept: Any) -> dict[str, Any]:
    """Describe a model on this machine."""
    return {
        "name": kept.name,
        "path": str(kept.folder),
        "bytes": kept.bytes,
        "source": kept.source,
        "revision": kept.revision,
        "problem": kept.problem,
    }


def kept_line(model: dict[str, Any]) -> str:
    """Return the line of a model that is not in the catalogue."""
    damaged = f"  (damaged: {model['problem']})" if model["problem"] else ""
    return f"{model['name']}  {in_bytes(model['bytes'])} on disk  {model['source']}{damaged}"


def model_line(model: dict[str, Any]) -> str:
    """Return the line of a model of a pair."""
    if model["installed"]:
        state = f"here, {in_bytes(model['bytes'])} on disk"
    else:
        damaged = "damaged" if model["problem"] else "not here"
        state = f"{damaged}, {in_bytes(model['download_bytes'])} to download"
    gated = "; gated" if model["gated"] else ""
    return f"{model['name']:<28} {state:<31} {model['license']}{gated}"


def about_located(located: Any) -> dict[str, Any]:
    """Describe a model that was just fetched or imported."""
    return {
        "name": located.name,
        "path": str(located.folder),
        "revision": located.revision,
    }


def pair_line(pair: dict[str, Any]) -> str:
    """Return the line of a pair."""
    large = "" if pair["fits"] else ": too large for this machine"
    memory = f"(about {in_bytes(pair['memory_bytes'])} of memory{large})"
    return f"{pair['name']}  {pair['description']}  {memory}"


def suggestion(pair: dict[str, Any]) -> str:
    """Return the lines of a suggested pair."""
    state = "here" if pair["installed"] else f"{in_bytes(pair['download_bytes'])} to download"
    tokenizer = "one tokenizer" if pair["one_tokenizer"] else "two tokenizers"
    line = f"{pair['name']:<16} {state:<20} {tokenizer:<15} {pair['description']}"
    return f"{line}\n{'':<16} {pair['note']}" if pair["note"] else line


def echo_json(content: Any) -> None:
    """Print JSON in one line."""
    tell(json.dumps(content, ensure_ascii=False))


def echo(about: dict[str, Any], as_json: bool) -> None:
    """Print an object as JSON, or a line for each value."""
    if as_json:
        echo_json(about)
    else:
        print_about(about)


def print_about(about: dict[str, Any], indent: str = "") -> None:
    """Print a line for each value of an object."""
    for key, value in about.items():
        if isinstance(value, dict):
            if value:
                tell(f"{indent}{key}")
            print_about(value, indent + "  ")
        elif value is not None:
            tell(f"{indent}{_label(key):<16} {_shown(key, value)}")


def _label(key: str) -> str:
    return _LABELS.get(key, key.removesuffix("_bytes").replace("_", " "))


def _shown(key: str, value: Any) -> str:
    if key.endswith("bytes"):
        return in_bytes(value)
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
