"""The header reader agrees with the gguf package's, and detects damage."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blendin_models.errors import ModelError
from blendin_models.gguf.file import read_gguf
from blendin_models.gguf.importer import import_gguf
from gguf_samples import tiny_config, tiny_model, weights_of, write_model


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("llama", hidden=32, vocab_size=270)
    path = tmp_path_factory.mktemp("sample") / "sample.gguf"
    kind = gguf.GGMLQuantizationType.Q4_0
    return write_model(path, "llama", config, weights_of(tiny_model(config)), kind)


def message(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        read_gguf(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def start(tensors: int = 0, fields: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def test_reads_what_the_gguf_package_reads(sample: Path) -> None:
    ours, theirs = read_gguf(sample), gguf.GGUFReader(sample)
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            value = ours.fields[name]
            assert (value.tolist() if hasattr(value, "tolist") else value) == field.contents()
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        found = ours.tensors[tensor.name]
        assert found.shape == tuple(reversed(tensor.shape.tolist()))
        assert found.type == tensor.tensor_type
        assert np.array_equal(found.data, tensor.data.view(np.uint8).reshape(-1))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "cannot be read"),
        (b"GG", "truncated"),
        (b"PK\x03\x04" + bytes(60), "not a GGUF file"),
        (start(version=1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "little-endian"),
        (start(tensors=2**63), "entries cannot fit"),
        (start(fields=2**40), "entries cannot fit"),
        (start(fields=1) + text(b"k") + struct.pack("<IIQ", 9, 4, 2**61), "entries cannot fit"),
        (start(fields=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**50), "entries cannot fit"),
        (start(fields=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 0), "value type 9"),
        (start(fields=1) + text(b"k") + struct.pack("<I", 77) + bytes(8), "value type 77"),
        (start(fields=1) + struct.pack("<Q", 2**64 - 1) + bytes(9), "truncated"),
        (start(fields=1) + text(b"\xff\xfe") + struct.pack("<IQ", 10, 0), "not UTF-8"),
        (start(tensors=1) + text(b"t") + struct.pack("<I", 9) + bytes(90), "9 dimensions"),
        (start(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 8, 99, 0), "has type 99, which"),
        (start(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 0, 0, 0), "shape (0,)"),
        (start(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 33, 2, 0), "shape (33,)"),
        (start(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 2**62, 0, 0), "ends at byte"),
        (start(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 1, 0, 2**63), "ends at byte"),
        (start(fields=1) + text(b"general.alignment") + struct.pack("<II", 4, 3), "alignment 3"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    assert named in message(path)


def test_names_must_differ(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(start(fields=2) + 2 * (text(b"k") + struct.pack("<IB", 0, 1)))
    assert "two entries are called 'k'" in message(path)
    tensor = text(b"t") + struct.pack("<IQIQ", 1, 1, 0, 0)
    path.write_bytes(start(tensors=2) + 2 * tensor + bytes(64))
    assert "two tensors are called 't'" in message(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "missing.gguf" in message(tmp_path / "missing.gguf")
    assert "cannot be read" in message(tmp_path)


def imports_or_says_why(data: bytes, folder: Path) -> None:
    source, target = folder / "damaged.gguf", folder / "out"
    source.write_bytes(data)
    problem = None
    try:
        import_gguf(source, target)
    except ModelError as error:
        problem = str(error)
    assert (problem is None) == target.exists()
    assert "\n" not in (problem or "")
    shutil.rmtree(target, ignore_errors=True)
    assert [path.name for path in folder.iterdir()] == ["damaged.gguf"]


FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(sample: Path, tmp_path: Path, share: float) -> None:
    data = sample.read_bytes()
    path = tmp_path / "short.gguf"
    # Only the padding after the last tensor, 32 bytes at most, may be missing.
    path.write_bytes(data[: int(share * (len(data) - 32))])
    message(path)


@FUZZ
@given(
    # The header is an eighth of the file; most changes belong there.
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    header=st.booleans(),
)
def test_changed_bytes_import_or_are_refused(
    sample: Path, tmp_path: Path, places: list[tuple[float, int]], header: bool
) -> None:
    data = bytearray(sample.read_bytes())
    limit = (data.index(b"blk.1") if header else len(data)) - 1
    for share, value in places:
        data[int(share * limit)] = value
    imports_or_says_why(bytes(data), tmp_path)


@FUZZ
@given(name=st.sampled_from(["settings", "tokenizer"]), data=st.data())
def test_a_field_of_another_kind_imports_or_is_refused(
    sample: Path, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    """Each value in turn is replaced by a number, a string or a list where another is expected."""
    content = sample.read_bytes()
    prefix = {"settings": "llama.", "tokenizer": "tokenizer."}[name]
    keys = [key for key in read_gguf(sample).fields if key.startswith(prefix)]
    key = data.draw(st.sampled_from([*keys, "general.architecture"])).encode()
    replacement = data.draw(
        st.sampled_from(
            [
                struct.pack("<Id", 12, float("nan")),
                struct.pack("<Iq", 11, -1),
                struct.pack("<IQ", 10, 2**64 - 1),
                struct.pack("<IB", 7, 1),
                struct.pack("<IQ3s", 8, 3, b"abc"),
                struct.pack("<IIQ2f", 9, 6, 2, 0.5, float("inf")),
                struct.pack("<IIQQ1s", 9, 8, 1, 1, b"a"),
            ]
        )
    )
    # The old entry is renamed to an unused key; the new one goes before all others, with another
    # entry that makes the header longer by a multiple of the alignment.
    renamed = content.replace(text(key), text(b"x" * len(key)), 1)
    added = text(key) + replacement + text(b"fill") + struct.pack("<I", 8)
    added += text(bytes(-(len(added) + 8) % 32))
    count = struct.unpack_from("<Q", renamed, 16)[0] + 2
    changed = renamed[:16] + struct.pack("<Q", count) + added + renamed[24:]
    imports_or_says_why(changed, tmp_path)
