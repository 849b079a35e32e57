"""What hostile model output does to a terminal, and what terminals do to an answer."""

from __future__ import annotations

import re

import pytest

from chains import WORDS, write_chain
from running import blendin, pair
from terminals import LOOPING, PROMPT, opened

HOSTILE = [
    b"begin",
    b"\x1b]52;c;aGk=\x07",  # OSC 52 writes to the clipboard
    b"\x1b]8;;http://x\x1b\\",  # OSC 8 opens a link
    b"link",
    b"\x1b",  # the same, cut where it hurts
    b"]8;;",
    b"\x07",
    b"\xc2",  # C1: half of a control sequence introducer
    b"\x9b2J",
    b"erased\r\x1b[K",
    "user\u202etxt.exe\u2066".encode(),
    b"\xe2\x80",  # half of a right-to-left mark
    b"\x8fa",
    "zero\u200bwidth\ufeff\u2060".encode(),
    "soft\u00adhyphen\u034f\u3164\U000e0041\U000e0101".encode(),
    b"\x08\x7f",
    "naïve 日本語\n\tend".encode(),
]
BYTES = b"".join(HOSTILE)
SHOWN = (
    "begin�]52;c;aGk=��]8;;http://x�\\link�]8;;��2Jerased��[Kuser�txt.exe��azero�width��"
    "soft�hyphen������naïve 日本語\n\tend\n"
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def hostile(tmp_path):
    return pair(write_chain(tmp_path / "base", HOSTILE), write_chain(tmp_path / "guide", HOSTILE))


@pytest.fixture
def endless(tmp_path):
    around = {"end": WORDS[0]}
    folders = (write_chain(tmp_path / name, WORDS, **around) for name in ("base", "guide"))
    return pair(*folders)


@pytest.fixture
def terminals(tmp_path):
    with opened(str(tmp_path / "home")) as start:
        yield start


def test_a_pipe_gets_the_bytes_unchanged(hostile):
    ended = blendin("generate", "-q", *hostile, "hi")
    assert (ended.returncode, ended.stdout) == (0, BYTES + b"\n")


def test_a_terminal_gets_text_without_control_characters(terminals, hostile):
    terminal = terminals("generate", "-q", *hostile, "hi")
    assert terminal.leave() == 0
    assert terminal.seen.replace("\r\n", "\n") == SHOWN


def test_so_does_a_terminal_that_shows_the_blend(terminals, hostile):
    terminal = terminals("generate", "-q", "--show", "blend", "--tau", "1", *hostile, "hi")
    assert terminal.leave() == 0
    assert COLOURS.search(terminal.seen)
    assert COLOURS.sub("", terminal.seen).replace("\r\n", "\n") == SHOWN


def test_so_does_a_terminal_with_a_chat(terminals, hostile):
    terminal = terminals("chat", "-q", *hostile)
    terminal.until(PROMPT)
    terminal.type("hi\r")
    answer = terminal.until("\tend\r\n").replace("\r\n", "\n")
    assert answer.endswith(SHOWN)
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0


@pytest.mark.parametrize("columns", [1, 3])
def test_an_answer_on_a_narrow_terminal(terminals, tmp_path, columns):
    models = pair(write_chain(tmp_path / "a", WORDS), write_chain(tmp_path / "b", WORDS))
    terminal = terminals("chat", *models, columns=columns)
    terminal.until(">")
    terminal.type("hi\r")
    said = terminal.until("asked")
    assert b"".join(WORDS).decode() in said
    terminal.until(">")
    terminal.type("/quit\r")
    assert terminal.leave() == 0
    assert "Traceback" not in said + terminal.seen


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_a_terminal_that_is_resized_meanwhile(terminals, endless, command):
    prompt = ["hi"] if command == "generate" else []
    terminal = terminals(command, *endless, "-m", "3000", "--draft", "off", *prompt, code=LOOPING)
    if command == "chat":
        terminal.until(PROMPT)
        terminal.type("hi\r")
    answer = terminal.until(" one two.*eight")
    answer = answer[answer.index(" one two") :]
    for columns in (1, 200, 20, 3, 80):
        terminal.resize(columns)
        answer += terminal.until(" one two.*eight")
    assert (b"".join(WORDS).decode() * (len(answer) // 20)).startswith(answer)
    terminal.type("\x03")
    terminal.until("interrupted")
    if command == "generate":
        assert terminal.leave() == 130
        return
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_a_terminal_that_can_do_nothing(terminals, tmp_path, command):
    models = pair(write_chain(tmp_path / "a", WORDS), write_chain(tmp_path / "b", WORDS))
    prompt = ["hi", "--show", "blend", "--tau", "1"] if command == "generate" else []
    terminal = terminals(command, *models, *prompt, term="dumb")
    if command == "chat":
        terminal.until("> ")
        terminal.type("hi\r")
    said = terminal.until("asked")
    assert "\x1b" not in said
    if command == "chat":
        assert b"".join(WORDS).decode() in said
        terminal.until("> ")
        terminal.type("/quit\r")  # a key of control may come before the prompt listens for it
    else:
        assert re.findall("one|two|three|four|five|six|seven|eight", said)
    assert terminal.leave() == 0
