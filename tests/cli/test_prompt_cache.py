"""``--prompt-cache FILE``: what is kept, used again, and refused."""

from __future__ import annotations

import json

import pytest

from blendin_cli import session
from blendin_mlx.reading.context import Context

DOCUMENT = b"the cat sat on the mat and the dog ran to the hat\n" * 8


def asked(run, tiny, *arguments, stdin=DOCUMENT):
    result = run("generate", *tiny, "-m", 8, "--json", *arguments, stdin=stdin)
    assert result.code == 0, result.err
    return json.loads(result.text), result.err


def test_a_document_is_read_once(run, tiny, tmp_path, monkeypatch):
    read = []
    prefill = Context.prefill
    monkeypatch.setattr(
        Context, "prefill", lambda self, ids, *more: (read.append(ids), prefill(self, ids, *more))
    )
    file = tmp_path / "kept.safetensors"
    plain, _ = asked(run, tiny, "who ran?")
    asked(run, tiny, "--prompt-cache", file, "where?")
    written = file.stat().st_mtime_ns
    longest = max(map(len, read))
    read.clear()
    again, said = asked(run, tiny, "--prompt-cache", file, "who ran?")
    assert again["token_ids"] == plain["token_ids"]
    assert max(map(len, read)) < longest / 4
    assert file.stat().st_mtime_ns == written
    assert "another prefix" not in said


def test_the_system_prompt_of_a_chat_is_kept(run, tiny, tmp_path):
    file = tmp_path / "kept.safetensors"
    options = ["chat", *tiny, "-m", 8, "-q", "--system", DOCUMENT.decode()]
    plain = run(*options, stdin=b"who ran?\n")
    made = run(*options, "--prompt-cache", file, stdin=b"who ran?\n")
    again = run(*options, "--prompt-cache", file, stdin=b"who ran?\n")
    assert plain.out == made.out == again.out
    assert file.exists()


def test_another_document_is_answered_and_said(run, tiny, tmp_path):
    file = tmp_path / "kept.safetensors"
    asked(run, tiny, "--prompt-cache", file, "who?")
    other = b"an egg is boiled in hot water\n" * 4
    plain, _ = asked(run, tiny, "who?", stdin=other)
    got, said = asked(run, tiny, "--prompt-cache", file, "who?", stdin=other)
    assert got["token_ids"] == plain["token_ids"]
    assert "another prefix; remove it" in said


@pytest.mark.parametrize("content", [b"", b"no cache", DOCUMENT])
def test_no_prompt_cache_is_one_line(run, tiny, tmp_path, content):
    file = tmp_path / "kept.safetensors"
    file.write_bytes(content)
    result = run("generate", *tiny, "--prompt-cache", file, "hi")
    assert result.code == 1
    assert "kept.safetensors is not a prompt cache" in result.error()
    assert file.read_bytes() == content


def test_a_folder_that_is_missing_is_one_line(run, tiny, tmp_path):
    result = run("generate", *tiny, "--prompt-cache", tmp_path / "no" / "kept", "hi")
    assert result.code == 2
    assert "there is no folder" in result.error()


@pytest.fixture
def unloaded(monkeypatch):
    """The models must not be needed to say what is wrong."""
    monkeypatch.setattr(session, "load_pair", lambda *_: pytest.fail("the models were loaded"))


def test_bad_files_are_refused_before_models_are_loaded(run, tiny, tmp_path, unloaded):
    (tmp_path / "kept").write_bytes(b"garbage")
    assert run("generate", *tiny, "--prompt-cache", tmp_path / "kept", "hi").code == 1
    assert run("generate", *tiny, "--prompt-cache", tmp_path / "no" / "kept", "hi").code == 2


def test_another_document_of_the_same_length_is_told(run, tiny, tmp_path):
    file = tmp_path / "kept.safetensors"
    cache = ("--prompt-cache", file, "-m", 2, "Why?")
    assert run("generate", *tiny, *cache, stdin=b"the cat sat on the dog").code == 0
    said = run("generate", *tiny, *cache, stdin=b"the cat sat on the dog").err
    assert "another prefix" not in said
    assert "another prefix" in run("generate", *tiny, *cache, stdin=b"the dog sat on the cat").err


def test_no_file_is_made_without_anything_to_keep(run, tiny, tmp_path):
    file = tmp_path / "kept.safetensors"
    result = run("generate", *tiny, "--prompt-cache", file, "-m", 2, "hi")
    assert (result.code, file.exists()) == (0, False)
    assert "no system prompt or document" in result.err
