"""A conversation: piped line by line, and typed on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

import pytest

from blendin_cli import chat, session
from commands import DEADLINE_S


@pytest.fixture
def asked(monkeypatch):
    """The conversations that the models were given, in order."""
    seen = []
    answer = session.Session.answer

    def recorded(self, messages, interrupt, trace=None):
        seen.append([dict(message) for message in messages])
        return answer(self, messages, interrupt, trace)

    monkeypatch.setattr(session.Session, "answer", recorded)
    return seen


def test_piped_lines_are_one_conversation(run, tiny, asked):
    result = run("chat", *tiny, "-m", 4, stdin="first\n\nsécond\nthird".encode())
    assert result.code == 0
    answers = result.text.splitlines()
    assert len(answers) == 3
    assert [len(messages) for messages in asked] == [1, 3, 5]
    said = [message["content"] for message in asked[-1]]
    assert said == ["first", answers[0], "sécond", answers[1], "third"]
    assert [message["role"] for message in asked[-1]] == ["user", "assistant"] * 2 + ["user"]


def test_later_turns_answer_as_without_a_cache(run, tiny, asked):
    """Both caches are kept between turns; that must not show."""
    kept = run("chat", *tiny, "-qm", 8, stdin=b"first\nsecond\n").text.splitlines()[1]
    from blendin_mlx.generation import generate
    from blendin_models.resolve import load_pair

    pair = load_pair(base=tiny[1], aligned=tiny[3])
    assert generate(pair, asked[1], max_tokens=8) == kept


def test_clear_forgets(run, tiny, asked):
    result = run("chat", *tiny, "-m", 2, stdin=b"first\n/clear\nsecond\n")
    assert result.code == 0
    assert [len(messages) for messages in asked] == [1, 1]


def test_quit_leaves(run, tiny, asked):
    assert run("chat", *tiny, "-m", 2, stdin=b"/quit\nnever\n").code == 0
    assert asked == []


def test_help_and_unknown_commands(run, tiny, asked):
    result = run("chat", *tiny, "-q", stdin=b"/help\n/nope now\n")
    assert result.code == 0
    listed, unknown = result.err.splitlines()
    assert listed == chat.HELP
    assert unknown == f"/nope is no command. {chat.HELP}"
    assert (result.out, asked) == (b"", [])


def test_no_input_leaves(run, tiny):
    assert run("chat", *tiny, "-q").code == 0


def test_greeting_names_the_models(run, tiny):
    assert run("chat", *tiny).err.startswith("base, guided by aligned.  /help")


def test_line_that_is_not_utf8_names_the_byte(run, tiny):
    result = run("chat", *tiny, "-qm", 2, stdin=b"first\nab\xff\n")
    assert result.code == 2
    assert "standard input is not UTF-8 text: byte 8" in result.err
    assert len(result.err.splitlines()) == 1
    assert result.text.count("\n") == 1


def test_conversation_longer_than_the_context_is_an_error_in_a_pipe(run, tiny):
    result = run("chat", *tiny, "-q", stdin=b"hi " * 4000)
    assert result.code == 2
    assert "whose context holds 4096" in result.error()


def test_conversation_longer_than_the_context_goes_on_when_typed(run, tiny, asked, monkeypatch):
    monkeypatch.setattr(chat, "_lines", lambda: iter(["one", "hi " * 4000, "two"]))
    result = run("chat", *tiny, "-qm", 2, terminal=True)
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert line.endswith("whose context holds 4096; shorten it, or /clear")
    assert [len(messages) for messages in asked] == [1, 3, 3]
    assert asked[-1][-1]["content"] == "two"


class Terminal:
    """The other side of a pty."""

    def __init__(self, arguments: list[str]) -> None:
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child becomes the command
            os.environ.update(TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", HF_HUB_OFFLINE="1")
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
            os.execv(sys.executable, [sys.executable, "-m", "blendin_cli", "chat", *arguments])

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, pattern: str) -> str:
        """Read until the pattern shows; what came before it is used up."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            ready, _, _ = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, f"{pattern} never came, but {self.seen!r}"
            self.seen += os.read(self.fd, 4096).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found[0]

    def leave(self) -> int:
        """The exit code, once everything was said."""
        try:
            while os.read(self.fd, 4096):
                pass
        except OSError:  # how Linux says that the other side is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


PROMPT = r">[ \x08]"  # prompt_toolkit moves the cursor in place of writing the space


@pytest.fixture
def terminal(tiny):
    opened = Terminal([*tiny, "-m", "3000"])
    yield opened
    try:
        os.kill(opened.pid, signal.SIGKILL)
        os.waitpid(opened.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    os.close(opened.fd)


def test_terminal_session(terminal):
    """Interrupting an answer keeps the session; Ctrl-C at the prompt too; Ctrl-D leaves."""
    terminal.until("guided by")
    terminal.until(PROMPT)
    terminal.type("hello\r")
    terminal.until("hello")
    terminal.until("[a-z ]{30}")  # the answer streams
    terminal.type("\x03")
    terminal.until("end: interrupted")
    terminal.until(PROMPT)
    terminal.type("half a line\x03")
    terminal.until(PROMPT)
    terminal.type("/nope\r")
    terminal.until("/nope is no command")
    terminal.until(PROMPT)
    terminal.type("more\r")
    terminal.until("more")
    terminal.until("[a-z ]{30}")
    terminal.type("\x03")
    terminal.until("end: interrupted")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0
