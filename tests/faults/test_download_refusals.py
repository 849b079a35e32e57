"""Requests that the hub refuses and responses that are refused: one line, without the token."""

from __future__ import annotations

import errno
import logging
from traceback import format_exception
from unittest.mock import Mock
from urllib.parse import unquote

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import logging as hub_logging

from blendin_models.errors import ModelError
from blendin_models.hub import client, errors, transfer
from pulling import BASE, JUNK, WANTED, refused

TOKEN = "hf_secretSECRETsecret"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gated", "org/base is gated: request access at {url}/org/base"),
        (
            "401",
            "org/base cannot be fetched (401): it does not exist, or {token}; see {url}/org/base",
        ),
        (
            "403",
            "org/base cannot be fetched (403): it does not exist, or {token}; see {url}/org/base",
        ),
        (
            "404",
            "org/base cannot be fetched (404): it does not exist, or {token}; see {url}/org/base",
        ),
        ("429", "org/base: too many requests to {url} (429); later try again: "),
        ("503", "org/base: {url} answered with an error (503); later try again: "),
    ],
)
@pytest.mark.parametrize("of", ["/api/", "GET /org/"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_refusals_say_what_to_do_and_never_the_token(
    server, here, monkeypatch, caplog, capfd, kind, said, of, token
):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    server.fault(kind, of=of, for_ever=True)
    message = refused(BASE)
    known = "the token in use may not read it" if token else "it needs HF_TOKEN"
    assert message.startswith(said.format(url=server.url, token=known))
    if kind == "gated":
        assert ("the token in use" if token else "HF_TOKEN") in message
    sent = {request.headers.get("authorization") for request in server.requests}
    assert sent == {f"Bearer {token}" if token else None}
    out, err = capfd.readouterr()
    assert TOKEN not in message + caplog.text + out + err
    assert caplog.text + out + err == ""


def test_tracebacks_do_not_show_the_token(server, here, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.fault("401", for_ever=True)
    with pytest.raises(ModelError) as raised:
        client.look_up(BASE)
    assert raised.value.__cause__ is None
    server.fault("500", of="nothing")
    monkeypatch.delenv("HF_TOKEN")
    server.fault("401", for_ever=True)
    with pytest.raises(ModelError) as raised:
        client.look_up(BASE)
    assert raised.value.__cause__ is not None  # --debug shows where it came from


@pytest.mark.parametrize(
    ("endpoint", "token", "warned"),
    [
        ("http://hub.example", TOKEN, True),
        ("http://hub.example", None, False),
        ("https://hub.example", TOKEN, False),
        ("http://localhost:1", TOKEN, False),
        ("http://127.0.0.1:1", TOKEN, False),
        ("http://[::1]:1", TOKEN, False),
        ("http://me:hidden@10.1.2.3:80", TOKEN, True),
        ("http://me:hidden@10.1.2.3:80", None, True),
        ("https://me:hidden@10.1.2.3:80", None, False),
    ],
)
def test_a_token_over_plain_http_is_warned_of(here, monkeypatch, caplog, endpoint, token, warned):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(client, "retry", lambda *asked: pytest.fail("asked"))  # no network
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises((ModelError, pytest.fail.Exception)):
        client.look_up(BASE)
    said = f"your {'token' if token else 'password'} is sent unencrypted to http://"
    assert (said in caplog.text) == warned
    assert TOKEN not in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    "password", ["secret-word", "secret%2Fword", "se@cret-word", "se/cret-word", "secret word"]
)
@pytest.mark.parametrize("kind", ["404", "gated", "503", "reset", "corrupt", "endless"])
@pytest.mark.parametrize("of", ["/api/", "/resolve/"])
def test_a_password_in_the_endpoint_is_never_shown(
    server, here, monkeypatch, caplog, capfd, password, kind, of
):
    monkeypatch.setattr(client, "LONGEST_LISTING", 5000)
    address = server.url.removeprefix("http://")
    monkeypatch.setattr(constants, "ENDPOINT", f"http://me:{password}@{address}")
    server.fault(kind, of=of, for_ever=True)
    with pytest.raises(ModelError) as raised:
        client.fetch([client.look_up(BASE)])
    traceback = "".join(format_exception(raised.value))
    told = traceback + caplog.text + "".join(capfd.readouterr())
    for part in (password, unquote(password), "cret", "me:"):
        assert part not in told.replace("secrets", "")


@pytest.mark.parametrize("name", ["../x.json", "a/../../x.json", "/x.json", "a\\..\\x.json", "C:x"])
def test_names_that_leave_the_folder_are_refused(server, here, name):
    server.repos[BASE].files = {**WANTED[BASE], name: b"{}"}
    message = refused()
    assert message.startswith(f"{BASE} lists a file named {name!r}, which is not safe")
    assert server.asked("/resolve/") == 0


@pytest.mark.parametrize("repo", ["a--b/c", "a/b/c", "a/..", "a/b.git", "a b/c", "-a/b", ""])
def test_odd_repo_ids_are_refused(server, here, repo):
    assert refused(repo).startswith(f"{repo!r} is not a hub repo id: ")
    assert server.requests == []


@pytest.mark.parametrize("revision", ["../../x", "/x", ""])
def test_odd_revisions_are_refused(server, here, revision):
    for ask in (client.look_up, client.kept):
        with pytest.raises(ModelError, match="can have no revision"):
            ask(BASE, revision)
    assert server.requests == []


def test_a_repo_without_supported_weights_is_refused(server, here):
    server.repos[BASE].files = {"config.json": b"{}", **JUNK}
    assert refused().startswith(f"{BASE} has no model*.safetensors, the only weights")


def test_an_invalid_response_is_one_line(server, here):
    server.fault("corrupt", for_ever=True)
    assert "sent an invalid response" in refused()


def test_the_log_level_of_huggingface_hub_is_restored(server, here):
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity_info()
    server.fault("404", for_ever=True)
    refused()
    assert hub_logging.get_verbosity() == logging.INFO
    hub_logging.set_verbosity(before)


def test_an_invalid_commit_is_refused(server, here):
    server.repos[BASE].commit = "../../x"
    assert "sent an invalid response (ValueError: '../../x' is not a commit)" in refused()


def test_an_invalid_sha256_is_refused(server, here, monkeypatch):
    monkeypatch.setattr("hub_repo.sha256", lambda data: "../../x")
    assert (
        "sent an invalid response (ValueError: no valid size or checksum of model.safetensors"
        in refused()
    )


def test_a_disk_that_fills_up_during_the_download_is_one_line(server, here, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    listing = client._listing(BASE, "main")
    monkeypatch.setattr(transfer, "answer", Mock(side_effect=full))
    monkeypatch.setattr(client, "_listing", lambda *asked: listing)
    assert refused() == f"{BASE}: the disk of {here.cache} is full; free some space, or set HF_HOME"
    assert here.orphans() == []


def test_the_command_names_the_revision(server, here):
    server.repos[BASE].names = ("v1",)
    server.fault("503", for_ever=True)
    with pytest.raises(ModelError, match=f"blendin models pull {BASE}@v1$"):
        client.look_up(BASE, "v1")


def test_pauses_between_tries_grow_and_end():
    assert list(errors.WAITS_S) == sorted(errors.WAITS_S)
    assert sum(errors.WAITS_S) < 20
