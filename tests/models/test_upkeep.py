"""Models that are here: listed, verified, removed; in the program's cache and in the hub's."""

from __future__ import annotations

import hashlib
import os

import pytest

from blendin_models import manifest, store, upkeep
from blendin_models.errors import ModelError
from blendin_models.manifest import Manifest
from tiny_folders import write_model

COMMIT = "c0ffee" + 34 * "0"
REPO = "someone/model"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    # The second module copies from the first when imported, so it must be before that is changed.
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def quantized():
    """A model of the hub that was quantized here."""
    folder = write_model(store.model_folder("someone--model-c0ffee00-4bit-g64"), 1)
    manifest.write(folder, Manifest(REPO, COMMIT))
    return folder


@pytest.fixture
def snapshot(home):
    """The same model as the hub's cache keeps it: links to blobs that are named by their hash."""
    made = write_model(home / "made", 1)
    repo = home / "hub" / "models--someone--model"
    folder = repo / "snapshots" / COMMIT
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (repo / part).mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    for file in made.iterdir():
        blob = repo / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        (folder / file.name).symlink_to(os.path.relpath(blob, folder))
    return folder


def test_what_is_here_is_listed(quantized, snapshot):
    (store.models_folder() / "half").mkdir()
    assert [(kept.name, kept.revision) for kept in upkeep.imported()] == [(quantized.name, COMMIT)]
    assert [(kept.name, kept.folder) for kept in upkeep.snapshots()] == [(REPO, snapshot)]
    assert upkeep.imported()[0].bytes > 1000


def test_nothing_is_here():
    assert (upkeep.imported(), upkeep.snapshots()) == ([], [])
    for name in ("demo", REPO, "mine"):
        with pytest.raises(ModelError, match=f"{name} is not installed; see blendin models list"):
            upkeep.find(name)


@pytest.mark.parametrize(
    ("name", "meant"), [("dem", "demo"), ("gema-3-270m", "gemma-3-270m"), ("someone-model", "")]
)
def test_a_name_that_is_nearly_right_is_suggested(name, meant):
    with pytest.raises(ModelError) as refused:
        upkeep.find(name)
    assert (f"did you mean {meant}?" in str(refused.value)) == bool(meant)


def test_an_imported_model_is_suggested_too(quantized):
    with pytest.raises(ModelError, match=f"did you mean {quantized.name}"):
        upkeep.verify(quantized.name.replace("-c0ffee00", ""))


def test_a_repo_is_its_snapshot_and_what_was_made_of_it(quantized, snapshot):
    assert {kept.folder for kept in upkeep.find(REPO)} == {quantized, snapshot}
    assert [kept.folder for kept in upkeep.find(quantized.name)] == [quantized]


def test_removing_a_repo_removes_both(quantized, snapshot):
    freed = dict(upkeep.remove(REPO))
    assert freed.keys() == {quantized.name, REPO}
    assert min(freed.values()) > 1000
    assert not quantized.exists()
    assert not snapshot.exists()


def test_what_is_whole_verifies(quantized, snapshot):
    seen = []
    assert upkeep.verify(REPO, lambda *step: seen.append(step)) == 2
    assert {what for what, _, _ in seen} == {f"{REPO}, verify", f"{quantized.name}, verify"}
    assert all(done <= total for _, done, total in seen)


@pytest.mark.parametrize("which", ["quantized", "snapshot"])
def test_a_changed_byte_is_found_and_the_repair_named(quantized, snapshot, which):
    file = (quantized if which == "quantized" else snapshot) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.resolve().write_bytes(content)
    with pytest.raises(ModelError) as raised:
        upkeep.verify(REPO)
    assert "model.safetensors is damaged: its SHA-256 differs; repair it: " in str(raised.value)
    assert str(raised.value).endswith(f"blendin models remove {REPO} && blendin models pull {REPO}")
