"""``--json-schema FILE``: answers are JSON of that form; a file that cannot be used is one line."""

from __future__ import annotations

import importlib.util
import json

import pytest

SCHEMA = {
    "type": "object",
    "properties": {"day": {"enum": ["mon", "désormais"]}, "n": {"enum": [1, 23]}},
    "required": ["day", "n"],
    "additionalProperties": False,
}


@pytest.fixture
def schema(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA), encoding="utf-8")
    return file


def is_right(text):
    value = json.loads(text)
    return (
        list(value) == ["day", "n"]
        and value["day"] in ("mon", "désormais")
        and value["n"] in (1, 23)
    )


@pytest.mark.parametrize("options", [(), ("--temp", "1", "--seed", "4")])
def test_generate_writes_json(run, tiny, schema, options):
    result = run("generate", *tiny, "-q", "--json-schema", schema, *options, "hi")
    assert (result.code, result.err) == (0, "")
    assert is_right(result.text)


def test_chat_writes_json_from_where_it_is_set(run, tiny, schema):
    given = f"hi\n/set json-schema {schema}\nho\n".encode()
    result = run("chat", *tiny, "-q", "-m", 60, stdin=given)
    assert result.code == 0, result.err
    plain, held = result.text.splitlines()
    assert is_right(held)
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(plain)


def test_a_line_of_run_has_its_own(run, tiny, schema, tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"const": "é"}')
    bad = tmp_path / "bad.json"
    bad.write_text('{"type": 3}')
    lines = [{"prompt": "hi"}, *({"prompt": "hi", "json_schema": str(f)} for f in (other, bad))]
    result = run(
        "run", *tiny, "-q", "--json-schema", schema, "-",
        stdin="\n".join(map(json.dumps, lines)).encode(),
    )  # fmt: skip
    first, second, third = (json.loads(line) for line in result.text.splitlines())
    assert is_right(first["text"])
    assert second["text"] == '"é"'
    assert "bad.json: not a usable JSON schema" in third["error"]
    assert result.code == 1


def test_an_answer_that_was_cut_off_is_told(run, tiny, schema):
    result = run("generate", *tiny, "--json-schema", schema, "-m", 3, "--json", "-q", "hi")
    assert json.loads(result.text)["finish_reason"] == "length"
    assert "ended before its JSON was complete" in result.err  # in spite of -q
    assert result.code == 1
    assert run("generate", *tiny, "--json-schema", schema, "-m", 3, "hi").code == 1
    result = run("generate", *tiny, "--json-schema", schema, "--json", "hi")
    assert "ended before" not in result.err
    assert result.code == 0


def test_a_trace_keeps_the_schema_and_verifies(run, tiny, schema, tmp_path):
    trace = tmp_path / "run.jsonl"
    run("generate", *tiny, "-q", "--json-schema", schema, "--trace", trace, "hi")
    schema.unlink()
    assert json.loads(trace.read_text().splitlines()[0])["json_schema"] == SCHEMA
    assert run("trace", "verify", trace).code == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff{}", "is not UTF-8 text: byte 0"),
        (b"", "is not JSON: Expecting value"),
        (b'{"type": ', "is not JSON: Expecting value"),
        (b"[" * 100_000, "is not JSON: "),
        (b"[1]", "not a JSON schema: a schema is an object"),
        (b"false", "not a JSON schema"),
        (b'{"minimum": NaN}', "is not JSON: NaN"),
        (b'{"type": "nope"}', "Invalid type: nope"),
        (b'{"type": "array", "uniqueItems": true}', 'Unimplemented keys: ["uniqueItems"]'),
        (b'{"$ref": "http://127.0.0.1:9/x"}', "not a usable JSON schema"),
        (b'{"type": "string", "pattern": "(?=a)b"}', "look-around"),
        (b'{"type": "integer", "minimum": 5, "maximum": 3}', "Unsatisfiable schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_one_line(run, tiny, schema, content, reason):
    schema.write_bytes(content)
    result = run("generate", *tiny, "--json-schema", schema, "hi")
    assert result.code == 2
    assert reason in result.error()
    assert "schema.json" in result.error()


def test_a_missing_file_is_one_line(run, tiny, tmp_path):
    result = run("generate", *tiny, "--json-schema", tmp_path / "none.json", "hi")
    assert result.code == 2
    assert "none.json' does not exist" in result.error()


def test_a_stop_string_is_refused(run, tiny, schema):
    result = run("generate", *tiny, "--json-schema", schema, "--stop", "x", "hi")
    assert result.code == 2
    assert "--stop cannot be used with --json-schema" in result.error()


def test_without_llguidance_one_line_names_the_extra(run, tiny, schema, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run("generate", *tiny, "--json-schema", schema, "hi")
    assert result.code == 2
    assert 'pip install "blendin-mlx[json]"' in result.error()
