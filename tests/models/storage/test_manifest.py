"""The manifest of a folder, and the changes that a verification finds."""

from __future__ import annotations

import pytest

from blendin_models.errors import ModelError
from blendin_models.storage import manifest
from blendin_models.storage.manifest import Manifest

RECORD = Manifest("someone/model", "abc", {"bits": 4, "group_size": 64})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.bin").write_bytes(b"12345")
    manifest.write(tmp_path, RECORD)
    return tmp_path


def test_a_record_is_read_as_written(folder):
    read = manifest.read(folder)
    assert (read.source, read.revision, read.quantization) == (
        "someone/model",
        "abc",
        RECORD.quantization,
    )
    assert read.files.keys() == {"a.json", "b.bin"}
    assert manifest.problems(folder) == []


def test_every_change_is_named(folder):
    (folder / "a.json").unlink()
    (folder / "b.bin").write_bytes(b"12354")
    assert manifest.problems(folder) == [
        "a.json is missing",
        "b.bin is damaged: its SHA-256 differs",
    ]


def test_progress_reaches_the_end(folder):
    seen = []
    manifest.problems(folder, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 7), (7, 7)]


def test_a_folder_without_a_record_cannot_be_verified(tmp_path):
    assert manifest.read(tmp_path) is None
    with pytest.raises(ModelError, match="has no record"):
        manifest.problems(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"source": "x", "more": 1}', "{}"])
def test_a_damaged_record_is_one_line(folder, text):
    (folder / manifest.FILE).write_text(text)
    with pytest.raises(ModelError, match=r"blendin\.json is damaged"):
        manifest.read(folder)
