"""What ``/set`` lists: the values that hold in a chat, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from ..options.settings import DEFAULT_PAIR, Settings
from ..options.sources import source
from ..pair_loading import pair_of

if TYPE_CHECKING:
    from ..session import Session

# What holds where an option was not given.
_UNSET = {
    "reference": "none",
    "base_adapter": "none",
    "aligned_adapter": "none",
    "aligned_template": "the model's own",
    "system": "none",
    "repetition_penalty": "off",
    "seed": "none",
    "context": "as the models' configs say",
    "kv_bits": "off",
    "prompt_cache": "none",
    "json_schema": "none",
    "num_draft_tokens": "auto",
}
_OF_METHODS = {
    "tau": "tau",
    "gate": "gate",
    "alpha": "alpha",
    "lambda_": "lambda",
    "beta": "beta",
}


def spelled(name: str) -> str:
    """Return how a user spells the name of a setting."""
    return name.rstrip("_").replace("_", "-")


def rows(session: Session) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the value and the source of each setting that holds."""
    for field in fields(Settings):
        yield spelled(field.name), value(session, field.name), _source(session, field.name)


def value(session: Session, name: str) -> str:
    """Return the value that holds, in words a person reads."""
    from blendin_mlx.answer_statistics import describe_method

    given = getattr(session.settings, name)
    if name in _OF_METHODS:
        held = describe_method(session.method).get(_OF_METHODS[name])
        return f"not used by {session.settings.method}" if held is None else _written(held)
    if name in ("base", "aligned"):
        return session.pair.base.name if name == "base" else session.pair.guide_name
    if name == "pair":
        return given or pair_of(session.settings) or "none"
    if name == "seed" and session.settings.temp == 0:
        return "not used at temp 0"
    return _UNSET[name] if given is None else _written(given)


def _written(given: Any) -> str:
    if isinstance(given, bool):
        return "on" if given else "off"
    if isinstance(given, tuple):
        return ", ".join(map(repr, given)) or "none"
    return f"{given:g}" if isinstance(given, float) else str(given)


def _source(session: Session, name: str) -> str:
    now, began = getattr(session.settings, name), getattr(session.began, name)
    if now != began:
        return "set in this chat"
    ctx = click.get_current_context()
    parameter = next(one for one in ctx.command.params if one.name == _OF_METHODS.get(name, name))
    found = source(ctx, parameter)
    return (
        "recommended for the pair" if found == "default" and _recommended(session, name) else found
    )


def _recommended(session: Session, name: str) -> bool:
    from blendin_models.catalogue import entries

    began = session.began
    pair = entries.pairs().get(began.pair or DEFAULT_PAIR)
    return pair is not None and name in pair.recommended and not began.names_models
