"""How a task of the harness wants its answers written, as settings of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from ..options.settings import Settings

MOST_TOKENS = 256  # of an answer, where the task does not say; the harness's own default
SAMPLING = {"top_p": float, "top_k": int, "min_p": float}
WITHOUT_EFFECT = {"num_beams": 1, "repetition_penalty": 1, "num_return_sequences": 1}


def answer_settings(settings: Settings, wanted: Mapping[str, Any]) -> Settings:
    """Return the settings for an answer to a request.

    Args:
        settings: those of the session.
        wanted: the request's ``generation_kwargs``.

    Raises:
        click.ClickException: the task asks for what is not known here.

    Example:
        >>> answer_settings(settings, {"until": ["\\n"], "max_gen_toks": 8}).stop
        ('\\n',)
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    given: dict[str, Any] = dict(normalize_gen_kwargs(dict(wanted), MOST_TOKENS))
    is_sampled, temp = given.pop("do_sample"), given.pop("temperature", 1.0)
    values: dict[str, Any] = {
        "max_tokens": given.pop("max_gen_toks"),
        "stop": tuple(text for text in given.pop("until") if text),
        "temp": float(temp) if is_sampled else 0.0,
    }
    values |= {name: kind(given.pop(name)) for name, kind in SAMPLING.items() if name in given}
    for name, value in given.items():
        if name not in WITHOUT_EFFECT or value != WITHOUT_EFFECT[name]:
            raise click.ClickException(
                f"a task asks for {name}={value!r}, which answers cannot be written with here; "
                "take it out of the task's generation_kwargs"
            )
    return replace(settings, **values)
