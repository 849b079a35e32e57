"""A loopback hub, this process as its client, and processes that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

import prepared_python
from blendin_models.hub import errors
from loopback_hub import LoopbackHub
from pulling import BASE, GUIDE, PULL, REPOS, Place

# Of a hub that stalls; a hub that answers may be slow on a busy machine.
SHORT_S = 0.15


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    """A hub that has a small repo for each model of a pair."""
    with LoopbackHub(REPOS) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Empty caches, huggingface_hub's and ours."""
    return Place(tmp_path / "hf" / "hub", tmp_path / "home")


@pytest.fixture
def here(server: LoopbackHub, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """This process as a client of the hub, with short waits."""
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place.cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(place.home / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # it asks the hub, too
    monkeypatch.setattr(errors, "WAITS_S", (0.0, 0.0))
    monkeypatch.setenv("BLENDIN_HOME", str(place.home))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    close_session()
    yield place
    close_session()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set short timeouts for responses."""
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, SHORT_S)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(server: LoopbackHub, place: Place) -> Iterator[Start]:
    """``start(code)``: a process that pulls both models, or does what the code says.

    It is a fork; with ``fresh=True`` it imports all by itself.
    """
    started: list[subprocess.Popen[str]] = []
    settings = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(place.cache.parent),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "BLENDIN_HOME": str(place.home),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "BLENDIN"))}

    def command(code: str = PULL, fresh: bool = False, **more: str) -> subprocess.Popen[str]:
        environment = {**kept, **settings, **more}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        line = [sys.executable, "-c", code, BASE, GUIDE]
        options = {"env": environment, "text": True, **pipes}
        process = prepared_python.begin(line, fresh=fresh, **options)
        started.append(process)
        return process

    yield command
    server.heal()
    for process in started:
        with process:
            process.kill()
