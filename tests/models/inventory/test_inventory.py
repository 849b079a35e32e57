"""Models in the program's cache and in the hub's are listed, verified and removed."""

from __future__ import annotations

import json
import os

import pytest

from blendin_models.catalogue import entries
from blendin_models.errors import ModelError
from blendin_models.hub import cache, checksums, client
from blendin_models.inventory import listing, lookup, removal, verification
from blendin_models.storage import manifest, paths
from blendin_models.storage.manifest import Manifest
from tiny_folders import write_model

COMMIT, OLD = "c0ffee" + 34 * "0", "beef" + 36 * "0"
REPO = "someone/model"
QUANTIZED = "someone--model-c0ffee00-4bit-g64"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def quantized():
    """Create a hub model that was quantized here."""
    folder = write_model(paths.model_folder(QUANTIZED), 1)
    manifest.write(folder, Manifest(REPO, COMMIT, {"bits": 4, "group_size": 64}))
    return folder


@pytest.fixture
def snapshot(home, cached):
    """Create the same model in the hub's cache."""
    return cached(home / "hub", REPO, COMMIT, write_model(home / "made", 1))


@pytest.fixture
def old(home, snapshot, cached):
    """Create an older commit of it, tagged v1."""
    folder = cached(home / "hub", REPO, OLD, write_model(home / "older", 2), ref="v1")
    made = write_model(paths.model_folder("someone--model-beef0000-4bit-g64"), 1)
    manifest.write(made, Manifest(REPO, OLD, {"bits": 4, "group_size": 64}))
    return folder


def refused(name: str) -> str:
    """Return the one-line error of a verification."""
    with pytest.raises(ModelError) as raised:
        verification.require_whole(name, verification.verify(name))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def change_last_byte(path) -> None:
    """Corrupt a file without changing its modification time."""
    about = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.resolve().write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_models_on_this_machine_are_listed(quantized, snapshot):
    (paths.models_folder() / "half").mkdir()
    half, whole = listing.imported()
    assert (half.name, half.problem) == (
        "half",
        "it lacks config.json, tokenizer.json, model*.safetensors",
    )
    assert (whole.name, whole.revision, whole.problem) == (quantized.name, COMMIT, None)
    assert [(kept.name, kept.folder) for kept in listing.snapshots()] == [(REPO, snapshot)]
    assert whole.bytes > 1000


def test_an_empty_machine_lists_nothing():
    assert (listing.imported(), listing.snapshots()) == ([], [])
    for name in ("demo", REPO, "mine"):
        with pytest.raises(ModelError, match=f"{name} is not installed; see blendin models list"):
            lookup.find(name)


def test_other_repos_in_the_hubs_cache_are_not_listed(home, snapshot):
    folder = home / "hub" / "models--other--tokenizer" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    (home / "hub" / "datasets--a--b" / "snapshots" / COMMIT).mkdir(parents=True)
    assert [kept.name for kept in listing.snapshots()] == [REPO]


@pytest.mark.parametrize(
    ("name", "meant"), [("dem", "demo"), ("gema-3-270m", "gemma-3-270m"), ("someone-model", "")]
)
def test_a_similar_name_is_suggested(name, meant):
    with pytest.raises(ModelError) as refused:
        lookup.find(name)
    assert (f"did you mean {meant}?" in str(refused.value)) == bool(meant)


def test_an_imported_model_is_suggested_too(quantized):
    with pytest.raises(ModelError, match=f"did you mean {quantized.name}"):
        verification.verify(quantized.name.replace("-c0ffee00", ""))


def test_a_repo_includes_its_snapshot_and_quantized_copies(quantized, snapshot):
    assert {kept.folder for kept in lookup.find(REPO)} == {quantized, snapshot}
    assert [kept.folder for kept in lookup.find(quantized.name)] == [quantized]
    assert lookup.used(REPO).folder == quantized


def test_removing_a_repo_removes_both(quantized, snapshot):
    freed = dict(removal.remove(REPO))
    assert freed.keys() == {quantized.name, REPO}
    assert min(freed.values()) > 1000
    assert not quantized.exists()
    assert not snapshot.exists()


@pytest.mark.parametrize("revision", [OLD, "v1"])
def test_a_revision_is_removed_alone(quantized, snapshot, old, revision):
    name = f"{REPO}@{revision}"
    assert lookup.used(name).name == "someone--model-beef0000-4bit-g64"
    assert {kept.revision for kept in lookup.find(name)} == {OLD}
    assert [name for name, _ in removal.remove(name)] == [
        "someone--model-beef0000-4bit-g64",
        REPO,
    ]
    assert not old.exists()
    assert len(verification.verify(REPO)) == 2
    verification.require_whole(REPO, verification.verify(REPO))


def test_a_revision_that_is_not_here_removes_nothing(quantized, snapshot):
    for act in (verification.verify, lookup.find, lambda name: list(removal.remove(name))):
        with pytest.raises(ModelError, match=f"{REPO}@nosuch is not installed"):
            act(f"{REPO}@nosuch")
    assert len(lookup.find(REPO)) == 2


def test_complete_models_verify(quantized, snapshot):
    seen = []
    found = verification.verify(REPO, lambda *step: seen.append(step))
    assert [one.problems for one in found] == [(), ()]
    assert {what for what, _, _ in seen} == {f"{REPO}, verify", f"{quantized.name}, verify"}
    assert all(done <= total for _, done, total in seen)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("which", ["quantized", "snapshot"])
def test_a_changed_byte_is_found_and_the_repair_named(quantized, snapshot, which, file):
    verification.verify(REPO)  # its result must not be reused
    change_last_byte((quantized if which == "quantized" else snapshot) / file)
    line = refused(REPO)
    git = which == "snapshot" and file != "model.safetensors"
    assert f"{file} is damaged: its {'SHA-1' if git else 'SHA-256'} differs; repair it: " in line
    removed = quantized.name if which == "quantized" else REPO
    assert line.endswith(f"blendin models remove {removed} && blendin models pull {REPO}")


def test_a_file_found_corrupted_is_not_loaded(snapshot):
    assert client.kept(REPO) == snapshot
    change_last_byte(snapshot / "model.safetensors")
    assert client.kept(REPO) == snapshot  # nothing tells
    refused(REPO)
    assert client.kept(REPO) is None


def test_a_missing_shard_is_found(home, cached):
    made = write_model(home / "made", 1)
    (made / "model.safetensors").rename(made / "model-1.safetensors")
    (made / "model-2.safetensors").write_bytes(b"more weights")
    places = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (made / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    snapshot = cached(home / "hub", REPO, COMMIT, made)
    verification.require_whole(REPO, verification.verify(REPO))
    (snapshot / "model-2.safetensors").unlink()
    assert "model-2.safetensors is missing; repair it: " in refused(REPO)
    assert listing.snapshots()[0].problem == "it lacks model-2.safetensors"


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_link_to_nothing_is_found_and_can_be_removed(snapshot, file):
    (snapshot / file).resolve().unlink()
    assert f"{file} is missing; repair it: blendin models remove {REPO} && " in refused(REPO)
    (kept,) = listing.snapshots()
    assert kept.problem == f"it lacks {file}"
    assert [name for name, _ in removal.remove(REPO)] == [REPO]
    assert not snapshot.parents[1].exists()


def test_one_revision_of_a_damaged_repo_can_be_removed(snapshot, old):
    shared = (snapshot / "tokenizer.json").resolve()
    (old / "model.safetensors").resolve().unlink()
    list(removal.remove(f"{REPO}@{OLD}"))
    assert not old.exists()
    assert shared.exists()
    assert client.kept(REPO) == snapshot
    assert cache.commits(REPO, "v1") == []


def test_a_blob_in_a_store_that_repos_share_has_its_own_name(home, snapshot):
    """huggingface_hub stores some large files there under a hash other than their SHA-256."""
    blob = checksums.blob_of(snapshot / "model.safetensors")
    store_file = home / "hub" / "blobs" / "ab" / ("ab" * 32)
    store_file.parent.mkdir(parents=True)
    blob.rename(store_file)
    blob.symlink_to(os.path.relpath(store_file, blob.parent))
    assert client.kept(REPO) == snapshot
    verification.require_whole(REPO, verification.verify(REPO))
    change_last_byte(snapshot / "model.safetensors")
    assert "model.safetensors is damaged" in refused(REPO)


def test_a_pair_needs_both_models():
    base, aligned = (model.name for model in entries.find_pair("demo").models)
    folder = write_model(paths.model_folder(aligned), 1)
    manifest.write(folder, Manifest("x"))
    assert refused("demo") == (
        f"{base} of the pair demo is not here; fetch it: blendin models pull {base}"
    )
    assert len(lookup.find("demo")) == 1


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("blendin.json", "{", "blendin.json is damaged: "),
        ("blendin.json", '{"source": "x", "files": 3}', "'files' is of the wrong type"),
        ("blendin.json", '{"source": "x", "files": {"a": 3}}', "'files' is of the wrong type"),
        ("blendin.json", '{"source": 3}', "'source' is of the wrong type"),
        ("blendin.json", '{"source": "x", "quantization": [4]}', "'quantization' is of the wrong"),
        ("blendin.json", "[" * 200_000, "blendin.json is damaged: "),
    ],
)
def test_a_damaged_local_model_is_named_and_the_others_are_listed(quantized, file, content, said):
    damaged = write_model(paths.model_folder("mine"), 1)
    manifest.write(damaged, Manifest("mine.gguf"))
    if content is None:
        (damaged / file).unlink()
    else:
        (damaged / file).write_text(content)
    assert said in refused("mine")
    assert {kept.name: kept.problem is None for kept in listing.imported()} == {
        "mine": False,
        quantized.name: True,
    }
    verification.require_whole(quantized.name, verification.verify(quantized.name))
    assert [name for name, _ in removal.remove("mine")] == ["mine"]


def test_a_damaged_copy_is_not_taken_for_the_model(quantized, snapshot):
    (quantized / "blendin.json").write_text('{"source": "someone/model", "revision": 3}')
    assert listing.conversion(REPO, COMMIT) is None
    manifest.write(quantized, Manifest(REPO, COMMIT, {"bits": 7, "group_size": 64}))
    assert listing.conversion(REPO, COMMIT) is None
