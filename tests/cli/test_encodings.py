"""Byte-order marks, CRLF and other encodings: the same policy wherever a text comes from."""

from __future__ import annotations

import codecs
import json

import pytest

from blendin_models.catalogue import entries

MARK = codecs.BOM_UTF8
UTF16 = "hello".encode("utf-16")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory and a config folder, both empty."""
    monkeypatch.setenv("BLENDIN_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    entries._catalogue.cache_clear()
    yield tmp_path
    entries._catalogue.cache_clear()


def base_prompt(run, tiny, place, *options, stdin=b""):
    trace = place / "run.jsonl"
    result = run("generate", *tiny, "-qm", 2, "--trace", trace, *options, stdin=stdin)
    assert result.code == 0, result.err
    return json.loads(trace.read_text().splitlines()[0])["base_prompt"]["text"]


def test_a_prompt_on_standard_input(run, tiny, place):
    plain = base_prompt(run, tiny, place, stdin=b"one\ntwo\n")
    assert base_prompt(run, tiny, place, stdin=MARK + b"one\r\ntwo\r\n") == plain
    assert "save it as UTF-8" in run("generate", *tiny, stdin=UTF16).error()


def test_a_template_in_any_encoding(run, tiny, place):
    template = place / "t.jinja"
    template.write_bytes(MARK + b"{{ messages[0].content }}\r\nend")
    shown = base_prompt(run, tiny, place, "--base-template", template, "hi")
    assert shown == "hi\nend"
    template.write_bytes(MARK)
    empty = run("generate", *tiny, "--base-template", template, "hi")
    assert (empty.code, "the prompt is empty for base" in empty.error()) == (2, True)
    template.write_bytes(UTF16)
    result = run("generate", *tiny, "--base-template", template, "hi")
    assert (result.code, "save it as UTF-8" in result.error()) == (2, True)


def test_a_schema_in_any_encoding(run, tiny, place):
    pytest.importorskip("llguidance")
    schema = place / "s.json"
    schema.write_bytes(MARK + b'{\r\n"enum": ["yes"]}')
    assert run("generate", *tiny, "-q", "--json-schema", schema, "hi").text == '"yes"\n'
    schema.write_bytes(UTF16)
    assert "save it as UTF-8" in run("generate", *tiny, "--json-schema", schema, "hi").error()


def test_settings_in_any_encoding(run, tiny, place):
    settings = place / "blendin.toml"
    settings.write_bytes(MARK + b"[generate]\r\nmax-tokens = 3\r\n")
    answer = json.loads(run("generate", *tiny, "--json", "-q", "hi").text)
    assert answer["usage"]["completion_tokens"] == 3
    for content, said in ((UTF16, "save it as UTF-8"), (b"a = " + b"[" * 99_999, "too deeply")):
        settings.write_bytes(content)
        result = run("generate", *tiny, "hi")
        assert (result.code, "blendin.toml cannot be read" in result.error()) == (2, True)
        assert said in result.err


def test_a_catalogue_of_one_s_own(run, place):
    folder = place / "config" / "pairs"
    folder.mkdir(parents=True)
    file = folder / "more.toml"
    file.write_bytes(
        MARK + b'[pairs.odd]\r\nbase = "gemma-3-270m"\r\naligned = "smollm2-135m-instruct"\r\n'
        b'description = "x"\r\n'
    )
    assert run("models", "show", "odd").code == 0
    for content, said in ((UTF16, "save it as UTF-8"), (b"a = " + b"[" * 99_999, "too deeply")):
        file.write_bytes(content)
        entries._catalogue.cache_clear()
        result = run("models", "show", "odd")
        assert (result.code, "more.toml cannot be read" in result.error()) == (3, True)
        assert said in result.err


def test_lines_of_a_chat(run, tiny):
    plain = run("chat", *tiny, "-qm", 3, stdin=b"one\ntwo\n")
    marked = run("chat", *tiny, "-qm", 3, stdin=MARK + b"one\r\ntwo\r\n")
    assert (marked.code, marked.out) == (plain.code, plain.out)
    command = run("chat", *tiny, "-qm", 3, stdin=MARK + b"/system\r\n")
    assert command.err == "there is no system prompt\n"


def test_a_conversation_and_a_note(run, tiny, place):
    talk, note = place / "talk.json", place / "note.txt"
    run("chat", *tiny, "-qm", 3, stdin=f"one\n/save {talk}\n".encode())
    talk.write_bytes(MARK + talk.read_bytes().replace(b"\n", b"\r\n"))
    note.write_bytes(MARK + b"a\r\nb")
    lines = f"/load {talk}\n/read {note}\n/save {place}/after.json\n".encode()
    assert run("chat", *tiny, "-qm", 3, stdin=lines).code == 0
    messages = json.loads((place / "after.json").read_text())["messages"]
    assert [message["content"] for message in messages[::2]] == ["one", "a\nb"]
    talk.write_bytes(b'{"messages": ' + b"[" * 99_999)
    assert "too deeply" in run("chat", *tiny, "--resume", talk).error()


def test_a_trace_in_any_encoding(run, tiny, place):
    base_prompt(run, tiny, place, "hi")
    trace = place / "run.jsonl"
    trace.write_bytes(MARK + trace.read_bytes().replace(b"\n", b"\r\n"))
    assert run("trace", "verify", trace).code == 0
    assert run("trace", "view", trace).err == ""


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.jsonl"])
def test_prompts_of_a_diagnosis(place, name):
    from blendin_cli.diagnosis.command import read_prompts

    file = place / name
    text = '{"prompt": "one"}\n{"prompt": "two"}\n' if name.endswith("l") else "one\ntwo\n"
    file.write_bytes(MARK + text.encode().replace(b"\n", b"\r\n"))
    assert read_prompts(file) == ["one", "two"]


@pytest.mark.parametrize("variable", ["BLENDIN_HOME", "BLENDIN_CONFIG"])
def test_a_home_of_nobody_is_one_line(run, tiny, place, monkeypatch, variable):
    monkeypatch.setenv(variable, "~nobody-of-that-name/x")
    result = run("models", "list")
    assert result.code == 2
    assert f"{variable} is '~nobody-of-that-name/x'" in result.error()
    assert list(place.iterdir()) == []


def test_a_model_in_a_home_of_nobody_is_one_line(run, tiny):
    result = run("generate", *tiny[:2], "--aligned", "~nobody-of-that-name/x", "hi")
    assert result.code == 3
    assert "'~nobody-of-that-name/x' is not a folder" in result.error()
