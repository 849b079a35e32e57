"""A chat says what holds, confirms what changes, and asks before it overwrites."""

from __future__ import annotations

import json
import re
import tempfile
from types import SimpleNamespace

import pytest

from blendin_cli.chat.slash_commands import ALIASES, COMMANDS
from blendin_cli.terminal.figures import all_figures, short_figures
from blendin_mlx.answer_statistics import Statistics
from chains import WORDS, write_chain
from running import UNTIL_SIGNAL, pair
from terminals import PROMPT, opened

HELD = """
from blendin_mlx.reading.context import Context
def held(self, ids, forward=Context._forward, waited=[]):
    if not waited:
        waited.append(1)
        until_signal()
    return forward(self, ids)
Context._forward = held
"""


def test_an_editor_keeps_its_temporary_files_where_others_do(tmp_path, monkeypatch):
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "$TMPDIR" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "kernels"))  # as it is once MLX is imported
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answered = []
    chat = SimpleNamespace(messages=["hi"], last_message=lambda: "hi")
    chat.ask = lambda text, instead: answered.append(text)
    COMMANDS["edit"](chat, "")  # type: ignore[arg-type]
    assert answered == [tempfile.gettempdir()]


@pytest.fixture
def said(run, tiny):
    """``said("/set tau 0.3", "hi")``: what a chat without a terminal says of these lines."""

    def chatted(*lines, options=()):
        return run("chat", *tiny, "-qm", 2, *options, stdin="\n".join(lines).encode())

    return chatted


def test_every_value_that_holds_is_listed_with_its_source(run, tiny, monkeypatch):
    monkeypatch.setenv("BLENDIN_CHAT_TOP_P", "0.5")
    lines = b"/set seed 3\n/set system Be kind.\n/set\n"
    told = run("chat", *tiny, "-q", "-m", 3, stdin=lines).err
    rows = dict(re.findall(r"^([a-z-]+) (.*)$", told, re.M))
    assert rows["tau"].split() == ["0.4", "(default)"]
    assert rows["lambda"].split() == ["0.1", "(default)"]
    assert rows["max-tokens"].split() == ["3", "(command", "line)"]
    assert rows["top-p"].split() == ["0.5", "(BLENDIN_CHAT_TOP_P)"]
    assert rows["system"].endswith("Be kind. (set in this chat)")
    assert rows["kv-bits"].split()[0] == "off"
    assert rows["base"].split()[0] == "base"
    assert "None" not in told


@pytest.mark.parametrize(
    ("line", "confirmed"),
    [
        ("/set tau 0.3", "tau is 0.3"),
        ("/set max-tokens", "max-tokens is again 2"),
        ("/set parameter temperature 0.5", "temp is 0.5"),
        ("/set parameter num_predict 7", "max-tokens is 7"),
        ("/set repeat_penalty 1.1", "repetition-penalty is 1.1"),
        ("/method kad", "the method is kad"),
        ("/method", "the method is blendin, one of base"),
        ("/dial 0.5", "the dial is at 0.5"),
        ("/show blend", "answers are shown as blend"),
        ("/show", "answers are shown as text"),
        ("/think", "thinking is dimmed"),
        ("/system Be kind.", "the system prompt is set"),
        ('/system ""', "the system prompt is cleared"),
        ("/system", "there is no system prompt"),
        ("/clear", "a new conversation begins"),
    ],
)
def test_each_change_is_confirmed_in_one_line(run, tiny, line, confirmed):
    told = run("chat", *tiny, "-m", 2, stdin=line.encode()).err.splitlines()[1:]
    assert len(told) == 1
    assert told[0].startswith(confirmed)


def test_a_message_may_begin_with_a_slash(said, monkeypatch):
    result = said("//usr is what?", "/etc/hosts is what?", "/undo", "/undo")
    assert result.err.splitlines() == [
        "turn 2 taken back: /etc/hosts is what?",
        "turn 1 taken back: /usr is what?",
    ]


def test_a_command_that_is_nearly_one_is_suggested(said):
    assert "/mehtod is not a command; did you mean /method?" in said("/mehtod kad").err
    assert "did you mean 'temp'?" in said("/set temprature 1").err
    assert "give it at the start: --context" in said("/set parameter num_ctx 512").err


def test_ollamas_parameters_are_listed_as_our_options(said):
    assert said("/set parameter").err == said("/set parameters").err == said("/set").err


@pytest.mark.parametrize("line", ["/?", *(f"/{name}" for name in ALIASES if name != "?")])
def test_other_names_of_commands_work(said, line):
    assert "not a command" not in said(line).err


def test_a_file_is_overwritten_only_where_it_was_saved_before(said, tmp_path):
    file, other = tmp_path / "talk.json", tmp_path / "other.txt"
    other.write_text("precious")
    result = said("hi", f"/save {file}", f"/save {file}", f"/save {other}", f"/save {tmp_path}/a/b")
    told = result.err.splitlines()
    assert told[:2] == [f"saved to {file}"] * 2
    assert told[2] == f"{other} exists; name another file"
    assert told[3].endswith(f"there is no folder {tmp_path / 'a'}")
    assert other.read_text() == "precious"
    assert not (tmp_path / "a").exists()


def test_figures_are_short_unless_more_is_asked_for():
    statistics = Statistics({"method": "blendin"}, "either", 1, 1, decode_s=2.0)
    statistics.token_ids, statistics.interventions = [1] * 8, 1
    statistics.finish_reason = "stop"
    assert short_figures(statistics) == "8 tokens · 4.0/s · guide asked 1×"
    assert (
        all_figures(statistics)
        == "8 tokens, 4.0 tokens/s, 1 intervention (12.5%), mean α 0.00, end: stop"
    )
    statistics.finish_reason = "length"
    assert short_figures(statistics).endswith(" · cut at --max-tokens")
    statistics.method = {"method": "aligned"}
    assert "guide" not in short_figures(statistics)
    assert "intervention" not in all_figures(statistics)


def test_all_figures_are_shown_on_request(run, tiny):
    assert "interventions (" in run("generate", *tiny, "-vm", 2, "hi").err
    assert "interventions (" not in run("generate", *tiny, "-m", 2, "hi").err
    assert "last answer: 2 tokens, " in run("chat", *tiny, "-m", 2, stdin=b"hi\n/stats\n").err


@pytest.fixture
def terminals(tmp_path):
    with opened(str(tmp_path / "home")) as start:
        yield start


@pytest.fixture
def endless(tmp_path):
    folders = [write_chain(tmp_path / name, WORDS, end=WORDS[0]) for name in ("base", "guide")]
    return pair(*folders)


def test_a_loop_is_ended_and_said(terminals, endless):
    terminal = terminals("chat", *endless, "-m", "3000", "--draft", "off")
    terminal.until(PROMPT)
    terminal.type("hi\r")
    assert terminal.until("ended in a loop").count("eight") < 9
    terminal.until("/set temp 0.7")
    terminal.until(PROMPT)
    terminal.type("exit\r")
    assert terminal.leave() == 0


def test_an_interrupt_before_the_first_token_drops_the_turn(terminals, endless, tmp_path):
    file = tmp_path / "talk.json"
    terminal = terminals("chat", *endless, "-m", "3", code=UNTIL_SIGNAL + HELD)
    terminal.until(PROMPT)
    terminal.type("hi\r")
    terminal.until(r"\[waiting\]")
    terminal.type("\x03")
    terminal.until("the message was dropped")
    terminal.until(PROMPT)
    terminal.type(f"/save {file}\r")
    terminal.until("saved to")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0
    assert json.loads(file.read_text())["messages"] == []


def test_typed_ahead_text_is_kept_for_the_next_prompt(terminals, endless):
    terminal = terminals("chat", *endless, "-m", "3000", "--draft", "off")
    terminal.until(PROMPT)
    terminal.type("hi\r")
    terminal.until("one two")
    terminal.type("/dial\r")
    terminal.until("ended in a loop")
    terminal.until("the dial is at 1")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0
