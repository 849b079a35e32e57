"""Models from a loopback hub: what is fetched, checked, remembered, and found offline."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, snapshot_download

from blendin_models.errors import ModelError
from blendin_models.hub import client
from blendin_models.storage import manifest
from hub_repo import Repo
from pulling import BASE, BYTES, COMMANDS, GUIDE, JUNK, REQUESTS, WANTED, index, pull, refused

WEIGHTS = "model.safetensors"


def test_both_models_are_fetched_and_nothing_else(server, here):
    folders = pull()
    here.assert_complete()
    assert folders == [client.kept(BASE), client.kept(GUIDE)]
    assert [folder.name for folder in folders] == [server.repos[r].commit for r in (BASE, GUIDE)]
    assert len(server.requests) == REQUESTS
    assert not any(server.asked(f"/{name}") for name in JUNK)


def test_progress_is_one_count_over_both(server, here):
    told = []
    client.fetch([client.look_up(BASE), client.look_up(GUIDE)], lambda *one: told.append(one))
    assert {(what, total) for what, _, total in told} == {("base + guide", BYTES)}
    done = [count for _, count, _ in told]
    assert done == sorted(done)
    assert done[-1] == BYTES
    assert len(done) >= 2 * 5  # before and after each file's end


def test_the_hub_client_finds_fetched_files(server, here):
    folders = pull()
    for repo, folder in zip((BASE, GUIDE), folders, strict=True):
        assert snapshot_download(repo, local_files_only=True) == str(folder)


def test_files_that_are_here_are_not_fetched_again(server, here):
    pull()
    before = len(server.requests)
    told = []
    client.fetch([client.look_up(BASE)], lambda *one: told.append(one))
    assert len(server.requests) == before + 1
    assert told == []


def test_large_files_are_hashed_once(server, here, monkeypatch):
    assert client.kept(BASE) is None
    pull()
    hashed = []
    real = manifest.sha256
    monkeypatch.setattr(manifest, "sha256", lambda path: hashed.append(path) or real(path))
    before = len(server.requests)
    folder = client.kept(BASE)
    assert hashed == []
    os.utime(folder / WEIGHTS)  # it may have been written to
    assert client.kept(BASE) == folder
    assert client.kept(BASE) == folder
    assert hashed == [(folder / WEIGHTS).resolve()]
    assert len(server.requests) == before


def test_only_a_corrupted_file_is_fetched_again(server, here):
    pull()
    path = client.kept(BASE) / WEIGHTS
    path.write_bytes(b"X" + path.read_bytes()[1:])
    assert client.kept(BASE) is None
    before = server.asked("GET /org/")
    pull()
    here.assert_complete()
    assert server.asked("GET /org/") == before + 1


def test_a_damaged_transfer_is_retried(server, here):
    server.fault("corrupt", of=f"GET /{BASE}/resolve/{server.repos[BASE].commit}/{WEIGHTS}")
    pull()
    here.assert_complete()
    assert server.asked(f"GET /{BASE}/resolve/{server.repos[BASE].commit}/{WEIGHTS}") == 2


def test_persistent_damage_is_named_and_the_file_discarded(server, here):
    server.fault("corrupt", of=f"GET /{GUIDE}/resolve", at=3, for_ever=True)
    message = refused()
    assert message.startswith(f"{GUIDE}: {WEIGHTS} was downloaded twice with a wrong checksum")
    assert message.endswith(COMMANDS[1])
    assert client.kept(BASE) is not None
    assert client.kept(GUIDE) is None
    assert not list(here.cache.glob("models--org--guide/blobs/" + "?" * 64))
    server.heal()
    pull()
    here.assert_complete()


def test_both_must_fit_the_disk_before_the_first_byte(server, here, monkeypatch):
    free = max(sum(map(len, files.values())) for files in WANTED.values())  # each would fit
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    message = refused()
    assert message.startswith(f"{BASE} and {GUIDE} need 0.2 MB more in {here.cache}")
    assert "HF_HOME" in message
    assert server.asked("/resolve/") == 0
    usage.free = BYTES
    pull()
    usage.free = 0  # nothing is missing, so nothing is needed
    pull()


def test_offline_a_complete_model_is_found(server, here, monkeypatch):
    pull()
    before = len(server.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    here.assert_complete()
    assert len(server.requests) == before


def test_offline_missing_files_are_named(server, here, monkeypatch):
    server.fault("404", of=f"GET /{GUIDE}/resolve", at=2, for_ever=True)  # weights come last
    refused()
    before = len(server.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert client.kept(GUIDE) is None
    assert refused(GUIDE) == (
        f"{GUIDE}: tokenizer.json, {WEIGHTS} are not in the cache, and HF_HUB_OFFLINE is set; "
        f"unset it and try again: {COMMANDS[1]}"
    )
    assert "nothing of it is in the cache" in refused("org/other")
    assert len(server.requests) == before


def test_without_a_network_missing_files_are_named(server, here, monkeypatch):
    server.fault("reset", of=WEIGHTS, for_ever=True)
    refused()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    message = refused()
    assert message.startswith(f"{BASE}: {WEIGHTS} is not in the cache, and http://127.0.0.1:9 can")
    assert message.endswith(COMMANDS[0])


def test_revisions_are_found_by_the_name_requested(server, here):
    server.repos[BASE].names = ("main", "v1", "refs/pr/1")
    commit = server.repos[BASE].commit
    for revision in ("v1", "refs/pr/1", commit):
        assert client.kept(BASE, revision) is None or revision == commit
        (folder,) = client.fetch([client.look_up(BASE, revision)])
        assert client.kept(BASE, revision) == folder
    assert client.kept(BASE) is None
    with pytest.raises(ModelError, match=r"^org/base has no revision 'v2'; see http"):
        client.look_up(BASE, "v2")


def test_an_incomplete_new_commit_leaves_the_old_one_usable(server, here):
    old = pull(BASE)
    server.repos[BASE] = Repo({**WANTED[BASE], WEIGHTS: b"new weights"})
    server.fault("reset", of=f"GET /{BASE}", for_ever=True)
    refused(BASE)
    assert client.kept(BASE) == old[0]
    server.heal()
    new = pull(BASE)
    assert client.kept(BASE) == new[0] != old[0]


def test_a_snapshot_of_another_program_is_checked_against_its_index(server, here):
    shards = {"model-1.safetensors": b"first", "model-2.safetensors": b"second"}
    others = dict.fromkeys(("config.json", "tokenizer_config.json", "tokenizer.json"), b"{}")
    content = {**shards, **others, "model.safetensors.index.json": index(*shards)}
    server.repos[BASE] = Repo(content)
    folder = snapshot_download(BASE)
    assert str(client.kept(BASE)) == folder
    for name in content:
        path = Path(folder, name)
        target = os.readlink(path)
        path.unlink()
        assert client.kept(BASE) is None
        path.symlink_to(target)
    (client.kept(BASE) / "model-2.safetensors").write_bytes(b"SECOND")
    assert client.kept(BASE) is None


@pytest.mark.parametrize("content", ["", "[]", '{"files": 1, "revision": 2}', '{"files": [[1]]}'])
def test_damaged_listings_are_ignored(server, here, content):
    pull()
    for record in [*here.home.glob("hub/*"), here.home / "verified.json"]:
        record.write_text(content)
    assert client.kept(BASE) is None  # it holds no tokenizer, so its own index is not enough
    pull()
    here.assert_complete()
