"""Answered requests, kept between runs in the harness's own cache: a broken-off one goes on."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..session import Session
from ..tuned import weights_digest

if TYPE_CHECKING:
    from .model import BlendinLM

VERSION = 1  # counted up when the same request would get another response
_SUFFIX = "_rank0.db"  # the harness adds it


def kept_file(session: Session) -> Path:
    """Return the file for the responses of a session: its models, method and settings name it.

    Raises:
        click.ClickException: it is damaged.
    """
    from blendin_models.storage.paths import home

    path: Path = home() / "evaluations" / f"{_digest(session)}{_SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    _check(path)
    return path


def use_cache(path: Path) -> str:
    """Return how the harness wants the file named."""
    return str(path).removesuffix(_SUFFIX)


def close(lm: BlendinLM) -> None:
    """Write what was answered last, and close the file."""
    if lm.cache_hook.dbdict is not None:
        lm.cache_hook.dbdict.close()


def _digest(session: Session) -> str:
    """Return a digest of all that a response hangs on besides its request."""
    from blendin_mlx.answer_statistics import describe_method
    from blendin_mlx.prompt_cache import fingerprint

    settings, pair = session.settings, session.pair
    template = settings.base_template
    hangs_on: list[Any] = [
        *(VERSION, weights_digest(pair), describe_method(session.method)),
        pair.reference and fingerprint(pair.reference),
        *(settings.stop_policy, settings.projection, settings.thinking, settings.kv_bits),
        *(pair.aligned.chat_template, pair.base.chat_template, settings.context),
        template.read_text() if isinstance(template, Path) else template,
    ]
    return hashlib.sha256(json.dumps(hangs_on).encode()).hexdigest()[:32]


def _check(path: Path) -> None:
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(path)
        connection.execute("select count(*) from sqlite_master")
        connection.close()
    except sqlite3.Error as error:
        raise click.ClickException(
            f"{path} is damaged ({error}); remove it, and all is answered again"
        ) from None
