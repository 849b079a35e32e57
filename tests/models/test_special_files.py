"""Pipes, devices, links and odd names in place of files are refused or ignored, never awaited."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from blendin_mlx.backend.mlx import mx
from blendin_models.catalogue import entries
from blendin_models.errors import ModelError
from blendin_models.hub import cache, checksums, client
from blendin_models.inventory import removal
from blendin_models.loading import loader, preflight
from blendin_models.loading.quantize import Quantization, convert
from blendin_models.storage import atomic_folders, paths, small_files
from blendin_models.storage.manifest import Manifest
from tiny_folders import load_model, write_model

COMMIT = "c0ffee" + 34 * "0"
REPO = "someone/model"


@pytest.fixture
def pipe(tmp_path):
    """``pipe(path)``: a pipe there; whoever opens it after all reads nothing and need not wait."""
    made: list[tuple[Path, threading.Thread]] = []
    done = threading.Event()

    def feed(path: Path) -> None:
        while not done.is_set():
            os.close(os.open(path, os.O_WRONLY))

    def make(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        other = tmp_path / f"pipe {len(made)}"  # its other name, which no test removes
        os.mkfifo(other)
        os.link(other, path)
        feeder = threading.Thread(target=feed, args=(other,), daemon=True)
        feeder.start()
        made.append((other, feeder))
        return path

    yield make
    done.set()
    for other, feeder in made:
        reader = os.open(other, os.O_RDONLY | os.O_NONBLOCK)
        feeder.join()
        os.close(reader)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model", 1)


@pytest.fixture
def snapshot(home, cached):
    return cached(home / "hub", REPO, COMMIT, write_model(home / "made", 1))


def refused(folder: Path) -> str:
    """Return the one-line error that both a check and a load end with."""
    lines = set()
    for open_it in (preflight.inspect, loader.open_model):
        with pytest.raises(ModelError) as raised:
            open_it(folder)
        lines.add(str(raised.value))
    (line,) = lines
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model-00002.safetensors",
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "additional_chat_templates/tool.jinja",
    ],
)
def test_a_pipe_in_a_model_folder_is_named(folder, pipe, name):
    path = pipe(folder / name)
    assert refused(folder) == f"{path} is a pipe, a socket or a device, not a file; remove it"


def test_a_device_and_a_socket_are_named_too(folder):
    (folder / "vocab.txt").symlink_to("/dev/zero")
    assert "vocab.txt is a pipe, a socket or a device" in refused(folder)
    (folder / "vocab.txt").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        assert f"{folder / 's'} is a pipe, a socket or a device" in refused(folder)


def test_a_link_to_nothing_harms_no_model(folder):
    (folder / "notes.txt").symlink_to("nowhere")
    preflight.inspect(folder)


def test_pipes_in_the_hubs_cache_are_ignored(snapshot, pipe):
    name = "tokenizer_config.json"
    pipe(snapshot / name)
    assert not cache.is_whole(snapshot, cache.HubFile(name, 0, "0" * 40))
    assert client.kept(REPO) is None
    pipe(snapshot.parents[1] / "refs" / "main")
    assert cache.commits(REPO, "main") == []
    list(removal.remove(REPO))
    assert not snapshot.exists()


def test_pipes_in_our_own_cache_are_ignored(home, pipe):
    assert small_files.read_json(pipe(home / "verified.json")) is None
    record = home / "record.json"
    pipe(home / "record.json.part")
    small_files.replace_file(record, "{}")
    assert record.read_text() == "{}"
    with atomic_folders.locked(pipe(home / "a.lock")):
        pass


def test_a_pipe_among_the_files_of_pairs_is_named(home, pipe, monkeypatch):
    monkeypatch.setenv("BLENDIN_CONFIG", str(home))
    path = pipe(home / "pairs" / "mine.toml")
    entries._catalogue.cache_clear()
    with pytest.raises(ModelError, match=r"mine\.toml cannot be read: .*not a regular file"):
        entries.pairs()
    entries._catalogue.cache_clear()
    assert path.exists()


def test_a_record_is_not_written_through_a_link(tmp_path):
    own = tmp_path / "own"
    own.write_text("of the user")
    (tmp_path / "record.json.part").symlink_to(own)
    small_files.replace_file(tmp_path / "record.json", "{}")
    assert own.read_text() == "of the user"


def test_removing_a_linked_model_removes_the_link_alone(home, folder):
    link = paths.model_folder("mine")
    link.parent.mkdir(parents=True)
    link.symlink_to(folder)
    assert paths.remove("mine") == 0
    assert not link.exists()
    preflight.inspect(folder)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_removing_a_snapshot_follows_no_link(home, snapshot, is_damaged):
    own = home / "own"
    own.write_bytes(b"of the user")
    (snapshot / "notes.txt").symlink_to(own)
    if is_damaged:
        (snapshot / "gone.txt").symlink_to("nowhere")
    list(removal.remove(REPO))
    assert not snapshot.exists()
    assert own.read_bytes() == b"of the user"


def test_a_file_in_a_folder_of_another_snapshot_keeps_its_blob(home, snapshot, cached):
    other = snapshot.with_name("beef" + 36 * "0")
    (other / "deep").mkdir(parents=True)
    blob = checksums.blob_of(snapshot / "config.json")
    (other / "deep" / "config.json").symlink_to(blob)
    list(removal.remove(f"{REPO}@{COMMIT}"))
    assert (other / "deep" / "config.json").is_file()


@pytest.mark.parametrize("name", ["a[bc]d", "what?", "st*r", "[!x] y"])
def test_a_path_with_glob_characters_is_loaded(tmp_path, folder, name):
    odd = tmp_path / name / name
    odd.parent.mkdir()
    shutil.move(folder, odd)
    preflight.inspect(odd)
    model = load_model(odd)
    assert (model.name, model.path) == (name, str(odd))
    assert model.network(mx.array([[5, 6]])).shape == (1, 2, 300)
    convert(odd, odd.with_name("copy"), Quantization(4, 32), Manifest("mine"))
    load_model(odd.with_name("copy"))


def test_a_relative_path_with_glob_characters_is_loaded(tmp_path, folder, monkeypatch):
    shutil.move(folder, tmp_path / "a[bc]d")
    monkeypatch.chdir(tmp_path)
    load_model(Path("a[bc]d"))
