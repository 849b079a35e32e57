"""Names are resolved to models on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from blendin_models import load_pair, pair
from blendin_models.catalogue import entries
from blendin_models.errors import ModelError
from blendin_models.fetching import resolve
from blendin_models.hub.cache import HubFile, Snapshot
from blendin_models.loading.quantize import Quantization
from blendin_models.storage import manifest, paths
from blendin_models.storage.disk_space import Wanted
from tiny_folders import write_model

COMMIT = "c0ffee" + 34 * "0"
SIZE = 1_000_000


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


class Hub(ModuleType):
    """A hub with two repos that records its requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__("hub")
        self.repos = {
            "someone/model": folder / "1" / COMMIT,
            "someone/other": folder / "2" / COMMIT,
        }
        self.here: set[str] = set()
        self.asked: list[Any] = []

        self.known: set[str] = set()  # what was looked up once, or is here
        self.offline = False

    def commits(self, repo: str, revision: str | None = None) -> list[str]:
        return [self.repos[repo].name] if repo in self.here | self.known else []

    def is_offline(self) -> bool:
        return self.offline

    def kept(self, repo: str, revision: str | None = None) -> Path | None:
        return self.repos[repo] if repo in self.here else None

    def look_up(self, repo: str, revision: str | None = None) -> Snapshot:
        self.asked.append(("look up", repo, revision))
        if repo not in self.repos:
            raise ModelError(f"{repo}: there is no such repo")
        if self.offline:
            raise ModelError(f"{repo}: there is no network")
        self.known.add(repo)
        return Snapshot(repo, self.repos[repo].name, (HubFile("model.safetensors", SIZE, None),))

    def wanted(self, snapshots: list[Snapshot]) -> list[Wanted]:
        return [Wanted(one.repo, one.bytes, self.repos[one.repo], "HF_HOME") for one in snapshots]

    def fetch(
        self, snapshots: list[Snapshot], progress: Any = None, before_weights: Any = None
    ) -> list[Path]:
        self.asked.append(("fetch", *(one.repo for one in snapshots)))
        for one in snapshots:
            write_model(self.repos[one.repo], len(self.asked))
            self.here.add(one.repo)
        return [self.repos[one.repo] for one in snapshots]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    made = Hub(tmp_path / "snapshots")
    monkeypatch.setattr("blendin_models.hub.client", made, raising=False)
    monkeypatch.setitem(sys.modules, "blendin_models.hub.client", made)
    return made


def test_a_folder_is_located_before_the_hub_is_asked(tmp_path, hub):
    (tmp_path / "some" / "model").mkdir(parents=True)
    found = resolve.locate("some/model")  # a folder that is here comes before the hub
    assert (found.name, found.revision, found.source) == ("model", None, None)
    assert found.folder.resolve() == tmp_path / "some" / "model"
    assert hub.asked == []


def test_an_imported_model_is_located_by_name():
    folder = paths.model_folder("mine")
    folder.mkdir(parents=True)
    assert resolve.locate("mine") == resolve.LocalModel("mine", folder)
    manifest.write(folder, manifest.Manifest("mine.gguf", "sha256:12"))
    assert resolve.locate("mine").revision == "sha256:12"


def test_an_unquantized_repo_is_quantized_once_and_kept(hub):
    seen: list[Any] = []
    found = resolve.locate("someone/model", lambda *step: seen.append(step))
    assert found.folder == paths.model_folder(f"someone--model-{COMMIT[:8]}-4bit-g64")
    assert (found.name, found.revision) == ("someone/model", COMMIT)
    config = json.loads((found.folder / "config.json").read_text())
    assert config["quantization"]["bits"] == 4
    assert seen[-1][0] == "someone/model, to 4 bits"
    record = manifest.read(found.folder)
    assert (record.source, record.revision) == ("someone/model", COMMIT)
    assert record.quantization == {"bits": 4, "group_size": 64}
    stamp = (found.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve.locate("someone/model") == found
    assert (found.folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert hub.asked == [("look up", "someone/model", None), ("fetch", "someone/model")]


def test_a_chosen_quantization_stays_in_use(hub):
    """Of two copies the more precise is used; both can be located by their own names."""
    chosen = [Quantization(4, 32), Quantization(8, 32), Quantization(4, 64)]
    for quantization in chosen:
        (found,) = resolve.locate_all(["someone/model"], quantization=quantization)
        assert found.folder.name.endswith(f"-{quantization.bits}bit-g{quantization.group_size}")
        assert resolve.locate(found.folder.name).folder == found.folder
    assert resolve.locate("someone/model").folder.name.endswith("-8bit-g32")
    paths.remove(resolve.locate("someone/model").folder.name)
    assert resolve.locate("someone/model").folder.name.endswith("-4bit-g32")


def test_another_revision_is_quantized_separately(hub):
    resolve.locate_all(["someone/model"], quantization=Quantization(8, 32))
    hub.repos["someone/model"] = hub.repos["someone/model"].with_name("beef" + 36 * "0")
    hub.here.clear()
    hub.known.clear()
    assert resolve.locate("someone/model").folder.name == "someone--model-beef0000-4bit-g64"


def test_the_catalogue_says_what_a_model_is_quantized_to(hub, monkeypatch):
    entry = entries.HubModel(
        name="mine",
        license="MIT",
        tokenizer="t",
        parameters=1,
        bytes=4,
        repo="someone/model",
        bits=8,
    )
    monkeypatch.setattr(entries, "models", lambda: {"mine": entry})
    assert resolve.locate("mine").folder.name.endswith("-8bit-g64")


def test_a_quantized_repo_is_used_as_it_is(hub):
    folder = write_model(hub.repos["someone/model"], 1)
    hub.here.add("someone/model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization": {"bits": 4}}))
    assert resolve.locate("someone/model").folder == folder
    assert not paths.models_folder().exists()


def test_two_repos_are_fetched_together_after_both_were_looked_up(hub):
    found = resolve.locate_all(["someone/model", "someone/other", "someone/model"])
    assert [one.name for one in found] == ["someone/model", "someone/other", "someone/model"]
    looked = [("look up", repo, None) for repo in ("someone/model", "someone/other")]
    assert hub.asked == [*looked, ("fetch", "someone/model", "someone/other")]


def test_a_revision_reaches_the_hub(hub):
    resolve.locate("someone/model@v1.0")
    assert hub.asked[0] == ("look up", "someone/model", "v1.0")


def test_a_missing_repo_is_one_line(hub):
    with pytest.raises(ModelError) as raised:
        resolve.locate("someone/else")
    assert str(raised.value) == "someone/else: there is no such repo"


def test_a_near_miss_of_a_known_repo_is_hinted_at(hub):
    with pytest.raises(ModelError, match=r"did you mean HuggingFaceTB/SmolLM2-360M\?$"):
        resolve.locate("HuggingfaceTB/SmolLM-360M")


@pytest.mark.parametrize(
    "name", ["../home", "./missing/model", "/missing", "a/b/c", "§", "..", "a/b\n", "nonesuch"]
)
def test_invalid_names_never_reach_the_hub(hub, name):
    if name == "..":  # a folder, and no model
        assert resolve.locate(name).folder.is_dir()
    else:
        with pytest.raises(ModelError, match="is not a folder, a hub repo id or a known model"):
            resolve.locate(name)
    assert hub.asked == []


def test_a_full_disk_is_known_before_the_first_byte(monkeypatch, hub):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10**8})())
    monkeypatch.setattr(resolve, "install", lambda *arguments: pytest.fail("fetched"))
    with pytest.raises(ModelError, match=r"need 1\.1 GB more in .* where 0\.1 GB are free"):
        resolve.locate_all(["gemma-3-270m", "smollm2-135m-instruct"])


def test_a_name_replaces_its_side_of_a_pair(tmp_path):
    base = write_model(tmp_path / "base", 1)
    aligned = write_model(paths.model_folder(entries.find_pair("demo").aligned), 2)
    loaded = load_pair("demo", base=str(base))
    assert (loaded.base.path, loaded.aligned.path) == (str(base), str(aligned))
    assert loaded.aligned.revision == f"sha256:{entries.find_pair('demo').models[1].sha256}"  # type: ignore[attr-defined]


def test_one_folder_for_both_is_loaded_once(tmp_path):
    write_model(tmp_path / "one", 1)
    loaded = load_pair(base="one", aligned=str(tmp_path / "one"))
    assert loaded.base is loaded.aligned


def test_both_sides_are_checked_before_either_is_loaded(tmp_path, monkeypatch):
    write_model(tmp_path / "one", 1)
    (tmp_path / "two").mkdir()
    monkeypatch.setattr(pair, "open_located", lambda *arguments: pytest.fail("loaded"))
    with pytest.raises(ModelError, match=r"two is not a model folder: it lacks config\.json"):
        load_pair(base="one", aligned="two")


def test_one_side_is_not_a_pair():
    with pytest.raises(ValueError, match="both a base and an aligned model"):
        load_pair(base="one")
