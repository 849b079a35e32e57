"""Text from outside: UTF-8 with or without a mark, any line ends, JSON as the standard has it."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.input_text import decoded, parsed_json, parsed_toml, read_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff"))


@given(TEXT)
def test_text_is_the_same_with_a_mark_and_with_crlf(text: str) -> None:
    data = text.encode()
    assert decoded(data, "x") == text
    assert decoded(codecs.BOM_UTF8 + data.replace(b"\n", b"\r\n"), "x") == text


def test_only_the_first_bytes_can_be_a_mark() -> None:
    assert decoded(b"a\xef\xbb\xbfb", "x") == "a\ufeffb"
    assert decoded(codecs.BOM_UTF8, "x", start=9) == "\ufeff"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_other_encodings_are_refused(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    file.write_bytes((mark + "hello").encode(encoding))
    with pytest.raises(ValueError, match=r"notes\.txt is not UTF-8 text.*save it as UTF-8"):
        read_text(file)


def test_a_byte_that_is_no_text_is_named() -> None:
    with pytest.raises(ValueError, match=r"^x is not UTF-8 text: byte 12$"):
        decoded(b"ab\xff", "x", start=10)


JSON = st.recursive(
    st.none() | st.booleans() | TEXT | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**200), 10**200),
    lambda parts: st.lists(parts) | st.dictionaries(TEXT, parts),
)  # fmt: skip


@given(JSON)
def test_json_is_read_as_it_was_written(value: object) -> None:
    assert parsed_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NaN", "NaN is not a number in JSON"),
        ('{"a": [-Infinity]}', "-Infinity is not a number"),
        ("-1e999", "-1e999 is too large"),
        ("9" * 301, "301 digits"),
        ("9" * 9999, "9999 digits"),
        ("[" * 100_000, "nests too deeply"),
        (r'"\ud800"', r"half of a surrogate pair, '\\ud800', is not text"),
        (r'{"\udc00": 1}', "half of a surrogate pair"),
    ],
)
def test_what_nothing_can_be_done_with_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed_json(text)


def test_deep_toml_is_refused() -> None:
    with pytest.raises(ValueError, match="nests too deeply"):
        parsed_toml("a = " + "[" * 100_000)


def test_toml_with_an_enormous_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a number in it has too many digits$"):
        parsed_toml("a = 1" + "0" * 9999)
    with pytest.raises(ValueError, match="line 1"):
        parsed_toml("a = = 1")
