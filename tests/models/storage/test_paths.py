"""The folders that models are stored in."""

from __future__ import annotations

from pathlib import Path

import pytest

from blendin_models.errors import ModelError
from blendin_models.storage import paths


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    folder = tmp_path / "models" / "m"
    (folder / "deep").mkdir(parents=True)
    for file in (*paths.REQUIRED, "model.safetensors", "deep/file"):
        (folder / file).write_bytes(b"1234")
    return folder


def test_home_follows_the_environment(monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", "~/elsewhere")
    assert paths.home() == Path.home() / "elsewhere"
    monkeypatch.setenv("BLENDIN_HOME", "")
    assert paths.home().name == "blendin"


def test_a_relative_home_is_one_folder_wherever_the_program_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLENDIN_HOME", f"cache of {tmp_path.name}")
    assert paths.home() == tmp_path / f"cache of {tmp_path.name}"
    monkeypatch.chdir("/")
    assert paths.home() == tmp_path / f"cache of {tmp_path.name}"


def test_a_model_needs_all_its_files(kept):
    assert paths.is_installed("m")
    for file in (*paths.REQUIRED, "model.safetensors"):
        content = (kept / file).read_bytes()
        (kept / file).unlink()
        assert not paths.is_installed("m")
        (kept / file).write_bytes(content)


def test_shards_are_weights_too(kept):
    (kept / "model.safetensors").rename(kept / "model-00001-of-00002.safetensors")
    assert paths.is_installed("m")


def test_remove_counts_what_it_frees(kept):
    assert paths.remove("m") == 16
    assert not kept.exists()
    with pytest.raises(ModelError, match="m is not installed; see blendin models list"):
        paths.remove("m")


def test_a_partly_removed_folder_is_not_a_model(kept, monkeypatch):
    def interrupted(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(paths.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            paths.remove("m")
    assert not paths.is_installed("m")
    paths.remove("m")
    assert not kept.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../m", "m/..", "/m", "m\n", "-m", "m\0", "é"])
def test_names_that_could_leave_the_folder_are_refused(kept, name):
    with pytest.raises(ModelError, match="is not a model name"):
        paths.remove(name)
    assert kept.is_dir()
