"""Streams that are closed, full or no text, and a system that refuses limits.

========================================  ==========================================
closed stdout, ``generate`` and others    ``tests/cli/test_process.py``
``/dev/full``, ``generate`` and others    ``tests/cli/test_process.py``
a template or system prompt, not UTF-8    ``tests/cli/test_errors.py``
========================================  ==========================================
"""

from __future__ import annotations

import pytest

from chains import WORDS, write_chain
from running import begin, blendin, pair, the_line
from terminals import DEADLINE_S

TEXT = b"".join(WORDS) + b"\n"
REFUSED = """
import resource
def refused(which, limits):
    raise ValueError("not allowed to raise maximum limit")
resource.setrlimit = refused
"""


@pytest.fixture
def models(tmp_path):
    return pair(write_chain(tmp_path / "base", WORDS), write_chain(tmp_path / "aligned", WORDS))


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("generate",), b"abc\xff", "standard input is not UTF-8 text: byte 3"),
        (("generate",), "é".encode()[:1], "standard input is not UTF-8 text: byte 0"),
        (("generate", b"ab\xe9"), b"", "the prompt argument is not UTF-8 text: byte 2"),
        (("generate", b"\xed\xa0\x80"), b"", "the prompt argument is not UTF-8 text: byte 0"),
        (("generate",), b"", "the prompt is empty"),
        (("generate",), b" \n\n", "the prompt is empty"),
        (("generate", ""), b"", "the prompt is empty"),
    ],
)
def test_input_that_is_not_utf8_is_one_line(arguments, stdin, said):
    ended = blendin(*arguments, stdin=stdin)
    assert said in the_line(ended, 2)
    assert ended.stdout == b""


def test_a_line_of_a_chat_that_is_not_utf8(models):
    ended = blendin("chat", "-q", *models, stdin=b"first\n\nab\xff\nnever\n")
    assert "standard input is not UTF-8 text: byte 9" in the_line(ended, 2)
    assert ended.stdout == TEXT  # what was asked before is answered


def test_a_chat_nobody_reads_ends_quietly(models):
    process = begin("chat", "-q", *models)
    process.stdout.close()
    process.stdin.write(b"hi\n" * 3)
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_chat_on_a_full_device_is_one_line(models):
    with open("/dev/full", "wb") as full:
        ended = blendin("chat", "-q", *models, stdin=b"hi\n", stdout=full)
    assert the_line(ended, 1) == "blendin: cannot write: No space left on device"


def test_where_limits_cannot_be_set_all_works(models):
    ended = blendin("generate", "-q", *models, "hi", code=REFUSED)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, TEXT, b"")


SMALL_FILES = """
import resource, sys
sys.dont_write_bytecode = True  # half a module would be kept for whoever imports it next
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
"""


def test_a_prompt_cache_that_finds_no_room_is_one_line(models, tmp_path, monkeypatch):
    """In a fresh process: a fork would be measured for coverage all the same."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # its data find no room either
    file = tmp_path / "kept.safetensors"
    options = ("-q", *models, "--prompt-cache", file, "--system", "Be kind. " * 40)
    ended = blendin("generate", *options, "hi", code=SMALL_FILES, fresh=True)
    line = the_line(ended, 1)
    assert f"{file} cannot be written: it takes" in line
    assert "make room, or name another file" in line
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == []
