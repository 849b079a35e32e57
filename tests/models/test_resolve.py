"""From a name to a model on this machine."""

from __future__ import annotations

import pytest

from blendin_models import catalogue, resolve, store
from blendin_models.errors import ModelError
from tiny_folders import write_model


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has one repo; and what was asked of it."""
    asked = []

    def snapshot_download(repo, allow_patterns):
        asked.append((repo, allow_patterns))
        if repo != "someone/model":
            raise OSError("404: no such repo\nwith a second line")
        return str(tmp_path / "snapshots" / "abc123")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_a_folder(tmp_path, hub):
    (tmp_path / "some" / "model").mkdir(parents=True)
    found = resolve.locate("some/model")  # a folder that is here comes before the hub
    assert (found.name, found.revision) == ("model", None)
    assert found.folder.resolve() == tmp_path / "some" / "model"
    assert hub == []


def test_a_kept_model_that_is_in_no_catalogue():
    store.model_folder("mine").mkdir(parents=True)
    assert resolve.locate("mine") == resolve.Located("mine", store.model_folder("mine"))


def test_a_hub_repo_brings_no_code_and_no_pickles(hub):
    found = resolve.locate("someone/model")
    assert (found.name, found.revision) == ("someone/model", "abc123")
    ((_, patterns),) = hub
    assert not any(pattern.endswith(("py", "bin", "pt", "*", "gguf")) for pattern in patterns)


def test_a_hub_repo_that_is_not_there_is_one_line(hub):
    with pytest.raises(ModelError) as raised:
        resolve.locate("someone/else")
    message = "someone/else is no folder and could not be fetched from the hub: 404: no such repo"
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "name", ["../home", "./missing/model", "/missing", "a/b/c", "§", "..", "a/b\n", "nonesuch"]
)
def test_names_that_are_nothing_never_reach_the_hub(hub, name):
    if name == "..":  # a folder, and no model
        assert resolve.locate(name).folder.is_dir()
    else:
        with pytest.raises(ModelError, match="is no folder, no hub repo id and no known model"):
            resolve.locate(name)
    assert hub == []


def test_a_name_replaces_its_side_of_a_pair(tmp_path, monkeypatch):
    base = write_model(tmp_path / "base", 1)
    aligned = write_model(store.model_folder(catalogue.find_pair("demo").aligned.name), 2)
    pair = resolve.load_pair("demo", base=str(base))
    assert (pair.base.path, pair.aligned.path) == (str(base), str(aligned))


def test_one_folder_for_both_is_loaded_once(tmp_path):
    write_model(tmp_path / "one", 1)
    pair = resolve.load_pair(base="one", aligned=str(tmp_path / "one"))
    assert pair.base is pair.aligned


def test_both_sides_are_checked_before_either_is_loaded(tmp_path, monkeypatch):
    write_model(tmp_path / "one", 1)
    (tmp_path / "two").mkdir()
    monkeypatch.setattr(resolve, "_load", lambda *arguments: pytest.fail("loaded"))
    with pytest.raises(ModelError, match=r"two is no model folder: it lacks config\.json"):
        resolve.load_pair(base="one", aligned="two")


def test_one_side_is_no_pair():
    with pytest.raises(ValueError, match="both a base and an aligned model"):
        resolve.load_pair(base="one")
