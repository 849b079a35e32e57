"""A conversation: piped line by line, and typed on a terminal."""

from __future__ import annotations

import importlib
import json
import re
import signal

import click
import pytest

from blendin_cli import session
from blendin_cli.chat.slash_commands import COMMANDS, SHORT_HELP
from blendin_mlx import prompts
from blendin_mlx.errors import NumericalError
from blendin_mlx.prompts import build_prompt
from blendin_models.catalogue import entries
from commands import DEADLINE_S
from terminals import LOOPING, PROMPT, opened

chat = importlib.import_module("blendin_cli.chat.command")


@pytest.fixture
def asked(monkeypatch):
    """The conversations that the models were given, in order."""
    seen = []
    answer = session.Session.answer

    def recorded(self, messages, interrupt, trace=None, begun=()):
        seen.append([dict(message) for message in messages])
        return answer(self, messages, interrupt, trace, begun)

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
    from blendin_models import load_pair

    pair = load_pair(base=tiny[1], aligned=tiny[3])
    assert generate(pair, asked[1], max_tokens=8) == kept


def test_clear_forgets(run, tiny, asked):
    result = run("chat", *tiny, "-m", 2, stdin=b"first\n/clear\nsecond\n")
    assert result.code == 0
    assert [len(messages) for messages in asked] == [1, 1]


def test_quit_leaves(run, tiny, asked):
    assert run("chat", *tiny, "-m", 2, stdin=b"/quit\nnever\n").code == 0
    assert asked == []


def test_every_command_is_in_the_help(run, tiny, asked):
    result = run("chat", *tiny, "-q", stdin=b"/help\n")
    listed = [line.split()[0] for line in result.err.splitlines() if line[0] == "/"]
    assert listed == [*(f"/{name}" for name in COMMANDS), "//TEXT"]
    assert (result.code, result.out, asked) == (0, b"", [])


def test_an_unknown_command_is_said_and_the_rest_goes_on(run, tiny, asked):
    result = run("chat", *tiny, "-q", "-m", 2, stdin=b"/nope now\nhello\n")
    assert result.err.startswith(f"/nope is not a command; {SHORT_HELP}")
    assert len(result.err.splitlines()) == 1
    assert [len(messages) for messages in asked] == [1]
    assert result.code == 2


def test_end_of_input_quits(run, tiny):
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
    (line,) = result.err.splitlines()
    assert "whose context holds 4096" in line
    assert (result.code, result.out) == (2, b"")


@pytest.fixture
def typed(run, tiny, tmp_path, monkeypatch):
    """``typed("hello", "/quit", options=())``: a chat whose lines come as from a terminal."""
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))

    def chatted(*lines, options=()):
        monkeypatch.setattr(chat, "_typed", lambda: iter(lines))
        return run("chat", *tiny, "-qm", 2, *options, terminal=True)

    return chatted


def test_a_typed_chat_names_the_questions_of_its_pair_and_no_others(
    run, typed, tiny_demo, monkeypatch
):
    monkeypatch.setenv("BLENDIN_HOME", str(tiny_demo))
    monkeypatch.setattr(chat, "_typed", lambda: iter(["/quit"]))
    questions = entries.find_pair("demo").questions
    assert len(questions) >= 2
    assert f"Try:  {'  ·  '.join(questions)}\n" in run("chat", terminal=True).err
    assert "Try:" not in typed("/quit").err


def test_conversation_longer_than_the_context_goes_on_when_typed(typed, asked):
    result = typed("one", "hi " * 4000, "two")
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert line.endswith("whose context holds 4096; shorten it, or /clear")
    assert [len(messages) for messages in asked] == [1, 3, 3]
    assert asked[-1][-1]["content"] == "two"


def told(result):
    """What a chat said on stderr besides its closing lines."""
    return [line for line in result.err.splitlines() if "/s ·" not in line]


def test_retry_undo_and_clear(run, tiny, asked):
    lines = b"first\n/retry\nsecond\n/undo\nthird\n/clear\n/undo\n"
    result = run("chat", *tiny, "-qm", 3, stdin=lines)
    said = [[m["content"] for m in messages if m["role"] == "user"] for messages in asked]
    assert said == [["first"], ["first"], ["first", "second"], ["first", "third"]]
    assert result.text.splitlines()[0] == result.text.splitlines()[1]
    assert result.err.splitlines() == ["turn 2 taken back: second", "nothing was said yet"]
    assert result.code == 2


def test_options_are_changed_and_shown(run, tiny, monkeypatch):
    lines = b"/set max-tokens 2\nhello\n/set\n/set tau 7\n/set pair demo\n/set method base\n"
    result = run("chat", *tiny, "-q", stdin=lines)
    assert re.search(r"^max-tokens +2 \(set in this chat\)$", result.err, re.M)
    assert "'pair' is not an option that can be changed here" in result.err
    assert "Invalid value for '--tau'" in result.err
    assert len(result.text.split()) <= 2


def test_the_system_prompt_is_set_shown_and_cleared(run, tiny, asked, monkeypatch):
    read = []
    monkeypatch.setattr(prompts, "build_prompt", lambda pair, messages, **options: (
        read.append(messages) or build_prompt(pair, messages, **options)))  # fmt: skip
    lines = b"/system\n/system Be kind.\n/system\nhi\n/set system\n/system\nho\n"
    result = run("chat", *tiny, "-qm", 2, stdin=lines)
    assert result.err.splitlines() == [
        "there is no system prompt",
        "Be kind.",
        "there is no system prompt",
    ]
    assert read[0][0] == {"role": "system", "content": "Be kind."}
    assert [message["role"] for message in read[-1]] == ["user", "assistant", "user"]


def test_an_option_goes_back_to_where_it_was(run, tiny):
    lines = b"/set max-tokens 3\n/set stop e\n/set max-tokens\n/set tau 0.3\n/set tau\n/set\n"
    result = run("chat", *tiny, "-q", "-m", 7, stdin=lines)
    assert re.search(r"^max-tokens +7 \(command line\)$", result.err, re.M)
    assert re.search(r"^tau +0\.4 \(default\)$", result.err, re.M)
    assert re.search(r"^stop +'e' \(set in this chat\)$", result.err, re.M)
    assert "None" not in result.err


def test_a_conversation_is_kept_and_taken_up(run, tiny, asked, tmp_path):
    file = tmp_path / "one.json"
    first = run("chat", *tiny, "-qm", 3, stdin=f"first\n/save {file}\n".encode())
    assert first.err == f"saved to {file}\n"
    result = run("chat", *tiny, "-m", 3, "--resume", file, stdin=b"second\n")
    assert [m["content"] for m in asked[-1]] == ["first", first.text.strip("\n"), "second"]
    assert f"1 turn from {file}" in told(result)
    again = run("chat", *tiny, "-qm", 3, stdin=f"/load {file}\nsecond\n".encode())
    assert asked[-1] == asked[-2]
    assert again.text == result.text
    assert not list(file.parent.glob(".*.part"))


USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "ho"}


def kept(messages, system=None):
    content = {"type": "blendin conversation", "version": 1, "messages": messages}
    return json.dumps({**content, "system": system})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not a conversation: "),
        ("[1]", "is not a conversation"),
        ('{"type": "blendin conversation", "version": 9}', "is of version 9; this program reads 1"),
        ('{"type": "blendin conversation", "version": 1, "messages": [3]}', "is damaged"),
        ('{"type": "blendin conversation", "version": 1}', "is damaged"),
        ("[" * 100_000, "is not a conversation: "),
        (kept([USER]), "is damaged: its messages are not turns"),
        (kept([USER, {"role": "bot", "content": "x"}]), "is damaged: its messages are not turns"),
        (kept([USER, USER]), "is damaged: its messages are not turns"),
        (kept([USER, ASSISTANT], system=5), "is damaged: its system prompt"),
    ],
)
def test_a_file_that_holds_no_conversation_is_one_line(run, tiny, tmp_path, content, said):
    file = tmp_path / "talk.json"
    if content is not None:
        file.write_text(content)
    result = run("chat", *tiny, "--resume", file)
    assert result.code == 2
    assert said in result.error()  # and nothing else: no model was loaded before


def test_a_file_is_read_with_a_question(run, tiny, asked, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("some notes\n")
    (tmp_path / "bad").write_bytes(b"a\xff")
    lines = f"/read {file} What is this?\n/read {tmp_path}/none\n/read {tmp_path}/bad\n/read\n"
    result = run("chat", *tiny, "-qm", 2, stdin=lines.encode())
    assert asked[0][0]["content"] == "some notes\n\nWhat is this?"
    missing, bad, empty = result.err.splitlines()
    assert "none cannot be read: No such file" in missing
    assert "bad is not UTF-8 text: byte 1" in bad
    assert empty.startswith("name a file: ")


def test_names_of_files_may_have_spaces(run, tiny, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my notes.txt").write_text("some notes")
    lines = b'/read "my notes.txt" What?\n/save my talk.json\n/save .\n/read ~nobodyx/f\n'
    result = run("chat", *tiny, "-qm", 2, stdin=lines)
    assert asked[0][0]["content"] == "some notes\n\nWhat?"
    assert json.loads((tmp_path / "my talk.json").read_text())["messages"]
    assert ". cannot be written: it is a folder" in result.err
    assert "~nobodyx/f: " in result.err
    assert result.code == 2


def test_an_explicit_system_prompt_comes_before_the_kept_one(run, tiny, tmp_path):
    file = tmp_path / "talk.json"
    file.write_text(kept([USER, ASSISTANT], system="Be kind."))
    shown = b"/system\n"
    assert "Be kind." in run("chat", *tiny, "-q", "--resume", file, stdin=shown).err
    terse = run("chat", *tiny, "-q", "--resume", file, "--system", "Be terse.", stdin=shown).err
    assert terse == "Be terse.\n"


def test_undone_and_cleared_turns_do_not_come_back(typed, asked, tmp_path):
    typed("first", "second", "/undo", "/clear", "third")
    folder = tmp_path / "home" / "conversations"
    talks = [json.loads(file.read_text())["messages"] for file in folder.glob("*.json")]
    said = [[message["content"] for message in talk[::2]] for talk in talks]
    assert sorted(said) == [["first"], ["third"]]
    typed("fourth", options=["--resume"])
    assert [message["content"] for message in asked[-1][::2]] == ["third", "fourth"]
    assert len(list(folder.glob("*.json"))) == 2  # it goes on in its own file


def test_resume_without_a_conversation_is_one_line(typed):
    refused = typed(options=["--resume"])
    assert refused.code == 2
    assert "there is no conversation to go on with" in refused.error()


@pytest.mark.parametrize(
    "error", [NumericalError("NaN"), ValueError("no"), OSError(5, "I/O"), RuntimeError("memory")]
)
def test_a_typed_conversation_survives_an_answer_that_fails(typed, monkeypatch, error):
    answer = session.Session.answer
    failing = iter([False, True, False])

    def fails(self, *arguments, **options):
        if next(failing):
            raise error
        return answer(self, *arguments, **options)

    monkeypatch.setattr(session.Session, "answer", fails)
    result = typed("one", "two", "three")
    assert result.code == 0
    assert len(result.text.splitlines()) == 2


def test_a_typed_conversation_that_nobody_reads_ends_quietly(typed, asked, monkeypatch):
    def closed(self, text):
        if text:
            raise BrokenPipeError

    monkeypatch.setattr("blendin_cli.terminal.output.Output.write", closed)
    monkeypatch.setattr("blendin_cli.main._quiet", lambda: 0)
    result = typed("one", "two")
    assert (result.code, result.err, len(asked)) == (0, "", 1)


def test_options_that_cannot_hold_are_said_and_the_chat_goes_on(typed, tmp_path):
    (tmp_path / "broken.jinja").write_text("{% for %}")
    lines = ("/set base-template chat", "hi", "/set base-template query")
    lines += (f"/set aligned-template {tmp_path}/broken.jinja", "hi", "/set aligned-template", "hi")  # type: ignore[assignment]
    result = typed(*lines)
    assert result.code == 0
    assert len(result.err.splitlines()) == 2
    assert len(result.text.splitlines()) == 1


def test_an_interrupt_ends_a_conversation_in_a_pipe(start, tiny):
    process = start("chat", *tiny, "-qm", "3000")
    process.stdin.write(b"first\nsecond\n")
    process.stdin.close()
    process.stdin = None
    assert process.stdout.read(20)  # it answers
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert out.count(b"\n") == 1  # what was said so far, and nothing of the second answer
    assert b"Traceback" not in err


def test_stats_count_all_answers(run, tiny):
    result = run("chat", *tiny, "-m", 3, stdin=b"/stats\none\ntwo\n/stats\n")
    none, both = (line for line in result.err.splitlines() if " answers, " in line)
    assert none.startswith("0 answers, 0 tokens, 0.0 tokens/s, 0 interventions (0.0%)")
    assert both.startswith("2 answers, 6 tokens, ")


@pytest.fixture
def terminals(tiny, tmp_path):
    """``terminals("--resume")``: a chat on a terminal of its own, over one home."""
    with opened(str(tmp_path / "home")) as start:
        chat = ("chat", *tiny, "-m", "3000")
        yield lambda *options, **how: start(*chat, *options, code=LOOPING, **how)


def test_terminal_session(terminals):
    """Interrupting an answer keeps the session; Ctrl-C at the prompt too; Ctrl-D leaves.

    This one is a fresh process.
    """
    terminal = terminals(fresh=True)
    terminal.until("guided by")
    terminal.until(PROMPT)
    terminal.type("hello\r")
    terminal.until("hello")
    terminal.until("[a-z ]{30}")  # the answer streams
    terminal.type("\x03")
    terminal.until("interrupted")
    terminal.until(PROMPT)
    terminal.type("half a line\x03")
    terminal.until(PROMPT)
    terminal.type("/nope\r")
    terminal.until("/nope is not a command")
    terminal.until(PROMPT)
    terminal.type("more\r")
    terminal.until("more")
    terminal.until("[a-z ]{30}")
    terminal.type("\x03")
    terminal.until("interrupted")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0


def test_history_and_the_last_conversation_outlive_the_session(terminals):
    first = terminals("-m", "3")
    first.until(PROMPT)
    first.type("remember me\r")
    first.until("cut at --max-tokens")
    first.until(PROMPT)
    first.type("\x04")
    assert first.leave() == 0
    second = terminals("-m", "3", "--resume")
    second.until(r"1 turn from\s")
    second.until(PROMPT)
    second.type("\x1b[A")  # the arrow up
    second.until("remember me")
    second.type("\r")
    second.until("cut at --max-tokens")
    second.until(PROMPT)
    second.type("/se\t")
    second.until("/set")
    second.type("\x03")
    second.until("press Ctrl-C again to quit")
    second.until(PROMPT)
    second.type("\x03")
    assert second.leave() == 0


def test_a_history_that_cannot_be_read_is_none(terminals, tmp_path):
    (tmp_path / "home" / "history").mkdir(parents=True)
    terminal = terminals("-m", "3")
    terminal.until(PROMPT)
    terminal.type("hello\r")
    terminal.until("cut at --max-tokens")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0
    assert "Traceback" not in terminal.seen


def test_ctrl_c_while_looking_into_an_answer_keeps_the_chat(typed, monkeypatch):
    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("blendin_mlx.inspection.look_at", pressed)
    result = typed("hi", "/why 1", "hello")
    assert result.code == 0
    assert result.err == "stopped\n"
    assert len(result.text.splitlines()) == 2


def test_a_home_that_cannot_be_written_costs_the_history_alone(terminals, tmp_path):
    """As on a disk that is full: the conversation goes on, with what was said in it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "conversations").write_text("no folder")
    (home / "history").symlink_to(tmp_path / "gone" / "history")
    terminal = terminals("-m", "3")
    terminal.until(PROMPT)
    terminal.type("hello\r")
    terminal.until("cut at --max-tokens")
    terminal.until("cannot be written.{1,60}is not kept for --resume")
    terminal.until(PROMPT)
    terminal.type("more\r")
    terminal.until("cut at --max-tokens")
    assert "kept" not in terminal.until(PROMPT)  # it was said once
    terminal.type("/undo\r")
    terminal.until("taken back: more")
    terminal.until(PROMPT)
    terminal.type("/undo\r")
    terminal.until("taken back: hello")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0


def test_an_answer_that_fails_leaves_the_conversation_as_it_was(run, tiny, asked, monkeypatch):
    """A retry too: the earlier answer stays."""
    answer = session.Session.answer
    failing = iter([False, True, True, False])

    def fails(self, *arguments, **options):
        if next(failing):
            raise click.UsageError("it broke")
        return answer(self, *arguments, **options)

    monkeypatch.setattr(session.Session, "answer", fails)
    result = run("chat", *tiny, "-m", 3, stdin=b"first\n/retry\nsecond\nthird\n")
    assert result.err.count("it broke") == 2
    first = result.text.splitlines()[0]
    assert [message["content"] for message in asked[-1]] == ["first", first, "third"]


def test_a_message_may_have_many_lines(terminals):
    terminal = terminals("-m", "3")
    terminal.until(PROMPT)
    terminal.type("first line\x1b\rsecond line\r")
    terminal.until("second line")
    terminal.until("cut at --max-tokens")
    terminal.until(PROMPT)
    terminal.type("/undo\r")
    terminal.until("taken back: first line.{1,12}second line")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0
