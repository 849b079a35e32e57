"""A hub that sends false responses: they decide no path, size or wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blendin_models.hub import cache, client, errors, transfer
from hub_repo import Repo
from pulling import BASE, WANTED, pull, refused

WEIGHTS = "model.safetensors"
TOKEN = "hf_secretSECRETsecret"


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Xet-Hash"])
@pytest.mark.parametrize("lie", ["../../../../planted", "{outside}/planted", "x/../../y", ".", ""])
def test_no_header_decides_a_path(server, here, tmp_path, header, lie):
    server.lies = {header: lie.format(outside=tmp_path / "outside")}
    (tmp_path / "outside").mkdir()
    pull()
    here.assert_complete()
    assert all(path.is_relative_to(tmp_path / "hf") for path in files_below(tmp_path / "hf"))
    assert {path.parts[len(tmp_path.parts)] for path in files_below(tmp_path)} == {"hf", "home"}


def test_blobs_are_named_by_the_listed_checksums(server, here):
    (folder,) = pull(BASE)
    recorded = {file.checksum for file in cache.listed(BASE, folder.name).files}
    assert {path.name for path in (folder.parents[1] / "blobs").iterdir()} == recorded


def test_a_link_out_of_the_cache_is_replaced_and_its_target_kept(server, here, tmp_path):
    (folder,) = pull(BASE)
    own = tmp_path / "own"
    own.write_bytes(b"of the user")
    for name in WANTED[BASE]:
        (folder / name).unlink()
        (folder / name).symlink_to(own)
    pull()
    here.assert_complete()
    assert own.read_bytes() == b"of the user"


@pytest.mark.parametrize("checksum", ["../../x", "0" * 39, None, 3])
def test_an_invalid_checksum_is_refused(server, here, monkeypatch, checksum):
    monkeypatch.setattr("hub_repo.oid", lambda data: checksum)
    assert "sent an invalid response (" in refused(BASE)
    assert not here.cache.exists()


@pytest.mark.parametrize("size", [-1, "9", None, True])
def test_an_invalid_size_is_refused(server, here, monkeypatch, size):
    real = Repo.describe
    monkeypatch.setattr(Repo, "describe", lambda *a, **k: {**real(*a, **k), "size": size})
    assert "no valid size or checksum of config.json" in refused(BASE)


@pytest.mark.parametrize("of", ["/api/", "/resolve/"])
def test_a_response_compressed_without_request_is_never_decoded(server, here, of):
    server.fault("compressed", of=of, for_ever=True)
    said = "sent an invalid response (ValueError: it is compressed (gzip), which was not requested)"
    assert said in refused(BASE)
    assert {request.headers["Accept-Encoding"] for request in server.requests} == {"identity"}


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("/api/", "(ValueError: it is larger than 5000 bytes)"),
        ("/resolve/", f"config.json has more than the {len(WANTED[BASE]['config.json'])} bytes"),
    ],
)
def test_an_endless_response_is_refused(server, here, monkeypatch, of, said):
    monkeypatch.setattr(client, "LONGEST_LISTING", 5000)
    server.fault("endless", of=of, for_ever=True)
    assert said in refused(BASE)
    assert here.orphans() == []


@pytest.mark.parametrize("kind", ["404", "503"])
def test_the_body_of_a_refusal_is_not_read(server, here, kind):
    server.fault(f"{kind} without end", for_ever=True)
    assert f"({kind})" in refused(BASE)


def test_an_endless_redirect_is_refused(server, here):
    path = f"/api/models/{BASE}/revision/main?blobs=true"
    server.redirects = {path: server.url + path}
    assert f"more than {transfer.MOST_REDIRECTS} redirects" in refused(BASE)


def test_the_token_stays_with_the_hub(server, here, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    path = f"/{BASE}/resolve/{server.repos[BASE].commit}/{WEIGHTS}"
    server.redirects = {path: server.url.replace("127.0.0.1", "localhost") + path + "?there"}
    pull(BASE)
    sent = {"?there" in r.line: r.headers.get("authorization") for r in server.requests}
    assert sent == {False: f"Bearer {TOKEN}", True: None}
    assert client.kept(BASE) is not None


@pytest.mark.parametrize(
    ("header", "said", "waits"),
    [
        ("Retry-After", "7", 7),
        ("Retry-After", "99999999", errors.LONGEST_WAIT_S),
        ("Retry-After", "9" * 5000, errors.LONGEST_WAIT_S),
        ("Retry-After", "Wed, 21 Oct 2115 07:28:00 GMT", 0),
        ("Retry-After", "-3", 3),
        ("RateLimit", '"api";r=0;t=5', 5),
        ("RateLimit", '"api";r=0;t=55555555555', errors.LONGEST_WAIT_S),
    ],
)
@pytest.mark.parametrize("of", ["/api/", "/resolve/"])
def test_a_requested_wait_is_limited(server, here, monkeypatch, header, said, waits, of):
    waited: list[float] = []
    monkeypatch.setattr("blendin_models.hub.errors.time.sleep", waited.append)
    server.lies = {header: said}
    server.fault("429", of=of)
    pull(BASE)
    assert waited == [waits]


def test_an_interrupted_transfer_is_resumed(server, here):
    server.fault("cut", of=f"/{WEIGHTS}")
    pull(BASE)
    ranges = [r.headers["Range"] for r in server.requests if "Range" in r.headers]
    assert len(ranges) == 1
    assert ranges[0].startswith("bytes=")
    assert client.kept(BASE) is not None


def test_a_hub_that_sends_all_of_a_file_again_is_understood(server, here):
    server.ignores_ranges = True
    server.fault("cut", of=f"/{WEIGHTS}")
    pull(BASE)
    assert client.kept(BASE) is not None
    assert server.asked(f"/{WEIGHTS}") == 2  # what was cut, and all of it once


def test_blobs_of_another_snapshot_are_not_fetched_again(server, here):
    pull(BASE)
    server.repos[BASE] = Repo({**WANTED[BASE], "config.json": b'{"model_type": "other"}'})
    before = server.asked("/resolve/")
    pull(BASE)
    assert server.asked("/resolve/") == before + 1
    assert client.kept(BASE).name == server.repos[BASE].commit


def test_a_file_system_without_links_suffices(server, here, monkeypatch):
    def refuse(*paths, **options):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    folders = pull()
    assert folders == [client.kept(BASE), client.kept("org/guide")]
    assert not any(path.is_symlink() for path in folders[0].iterdir())
