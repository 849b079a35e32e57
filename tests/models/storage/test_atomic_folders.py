"""Model folders are created atomically: one process at a time, no leftovers of killed ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blendin_models.fetching.pip_packages import import_file
from blendin_models.storage import paths
from blendin_models.storage.atomic_folders import building, working_on

BUILDS = """
import sys, time
from blendin_models.storage import paths
from blendin_models.storage.atomic_folders import building, working_on
with working_on(sys.argv[1]), building(paths.model_folder(sys.argv[1])) as folder:
    (folder / "part").write_text("half")
    print(folder, flush=True)
    time.sleep(600)
"""
# Two processes want one model of the hub in fewer bits: the second begins while the first is at it.
CONVERTS = """
import sys, time
from pathlib import Path
from blendin_models.fetching import hub_models
from blendin_models.loading.quantize import Quantization
from blendin_models.fetching.hub_models import HubRepo
real = hub_models.convert
def slow(*arguments):
    print("converts", flush=True)
    time.sleep(0.5)
    real(*arguments)
hub_models.convert = slow
one = HubRepo("someone/model", "someone/model", None, Quantization(4, 32))
made = hub_models._quantized(one, Path(sys.argv[1]), one.quantization, None)
print(made.folder, flush=True)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def begin(code: str, *arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)


def left() -> list[str]:
    return sorted(path.name for path in paths.models_folder().glob("*"))


@pytest.mark.parametrize("name", ["mine", "other"])
def test_leftovers_of_a_kill_are_removed_when_any_model_is_created(name):
    with begin(BUILDS, "mine") as process:
        folder = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    assert folder.is_dir()
    with working_on(name):
        assert left() == []


def test_folders_of_other_processes_are_left_alone():
    with begin(BUILDS, "mine") as process:
        folder = Path(process.stdout.readline().strip())
        with working_on("other"):
            assert (folder / "part").exists()
        process.kill()


def test_a_name_with_the_same_beginning_is_another_name(home):
    (home / "models" / ".mine.v2.abcdefgh").mkdir(parents=True)
    (home / "models" / ".mine").mkdir()  # somebody else's
    with working_on("mine"):
        pass
    assert left() == [".mine"]


def test_two_processes_that_quantize_one_model_do_it_once(tmp_path):
    from tiny_folders import write_model

    folder = write_model(tmp_path / ("c0ffee" + 34 * "0"), 1)
    both = [begin(CONVERTS, folder) for _ in range(2)]
    told = [process.communicate(timeout=300)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(map(len, told)) == [1, 2]  # one of them converted
    assert told[0][-1] == told[1][-1]
    assert left() == [os.path.basename(told[0][-1])]


def test_leftovers_of_a_killed_import_are_removed_by_the_next_one(tmp_path, monkeypatch):
    (paths.models_folder() / ".gone.abcdefgh").mkdir(parents=True)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(
        "blendin_models.gguf.importer.import_gguf", lambda source, folder, *rest: folder.mkdir()
    )
    import_file(tmp_path / "x.gguf", "mine")
    assert left() == ["mine"]


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), building(tmp_path / "x" / "model"):
        raise KeyboardInterrupt
    assert list((tmp_path / "x").iterdir()) == []
