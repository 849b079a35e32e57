"""Ctrl-C in every phase; how long each takes to notice it, ``benchmarks/interrupts.py`` measures.

While ``generate`` writes: ``tests/cli/test_process.py`` (the text is kept, the JSON and the trace
are whole, twice breaks off, ignored in the background).
"""

from __future__ import annotations

import json

import pytest

from running import UNTIL_SIGNAL, WAITING, blendin, interrupted, pair
from terminals import LOOPING, PROMPT, opened
from tiny_folders import write_model

IMPORTING = """
import sys
def watch(event, told):
    if event == "import" and told[0] == {module!r} and not waited:
        waited.append(told)
        until_signal()
waited = []
sys.addaudithook(watch)
"""
LOADING = """
from blendin_models.loading import loader
def held(network, progress=None, evaluate=loader.evaluate_weights):
    until_signal()
    evaluate(network, progress)
loader.evaluate_weights = held
"""
# Each step of a prefill is told; the third one waits.
PREFILL = """
import os
from blendin_mlx.reading.context import Context
steps = []
def held(self, ids, forward=Context._forward):
    if len(ids) > 64:
        os.write(2, b"[step]")
        steps.append(len(ids))
        if len(steps) == 3:
            until_signal()
    return forward(self, ids)
Context._forward = held
"""
# A template that never ends, where a prompt is made of it; and the moment in which it runs.
ENDLESS = (
    "{% if add_generation_prompt or intro %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}{% endif %}"
)
RENDERING = """
import os
from blendin_mlx import limited_process
from blendin_mlx.chat_template import render
render.LIMITS = render.Limits(cpu_s=3600, wall_s=3600)
class Told(limited_process._Exchange):
    def __init__(self, child, line, *limits):
        super().__init__(child, line, *limits)
        self.told = b"99999" not in line
    def _check(self, deadline, waited):
        if waited and not self.told:
            self.told = True
            os.write(2, b"[waiting]")
        super()._check(deadline, waited)
limited_process._Exchange = Told
"""
LONG_PROMPT = "hi " * 900


@pytest.fixture
def models(tmp_path):
    base = write_model(tmp_path / "base", 1, chat_template=False)
    return pair(base, write_model(tmp_path / "aligned", 2))


@pytest.fixture
def typed(models, tmp_path):
    """``typed(code)``: a chat on a terminal."""
    arguments = ("chat", *models, "-m", "3000", "--tau", ".9", "--draft", "off")
    with opened(str(tmp_path / "home")) as start:
        yield lambda code="": start(*arguments, code=LOOPING + code)


@pytest.mark.parametrize("module", ["click", "mlx.core", "mlx_lm.utils", "transformers"])
def test_ctrl_c_while_importing(models, module):
    """In a fresh process, as nothing is imported in a fork."""
    ended = interrupted("generate", *models, "hi", code=IMPORTING.format(module=module), fresh=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", WAITING)


def test_ctrl_c_while_loading(models):
    ended = interrupted("generate", *models, "hi", code=LOADING)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", WAITING)


def test_in_a_long_prefill_no_further_step_is_taken(models):
    ended = interrupted("generate", *models, "-q", LONG_PROMPT, code=PREFILL)
    assert (ended.returncode, ended.stdout) == (130, b"")
    assert ended.stderr == 3 * b"[step]" + WAITING


def test_ctrl_c_while_a_template_is_rendered(models, tmp_path):
    template = tmp_path / "endless.jinja"
    template.write_text(ENDLESS)
    for option in ("--aligned-template", "--base-template"):
        ended = interrupted("generate", *models, option, template, "hi", code=RENDERING)
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", WAITING)


def test_a_chat_goes_on_where_a_template_is_stopped(typed, tmp_path):
    template = tmp_path / "endless.jinja"
    template.write_text(ENDLESS)
    terminal = typed(RENDERING)
    for line in (f"/set aligned-template {template}", "hello"):
        terminal.until(PROMPT)
        terminal.type(f"{line}\r")
    terminal.until(r"\[waiting\]")
    terminal.type("\x03")
    terminal.until("stopped before the models read the message")
    for line in ("/set aligned-template", "/set max-tokens 9", "hello"):
        terminal.until(PROMPT)
        terminal.type(f"{line}\r")
    terminal.until("cut at --max-tokens")
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0


def test_a_chat_that_is_loading_ends(typed):
    terminal = typed(UNTIL_SIGNAL + LOADING)
    terminal.until(r"\[waiting\]")
    terminal.type("\x03")
    assert terminal.leave() == 130
    assert "Traceback" not in terminal.seen


def test_a_chat_stops_reading_a_long_message_and_goes_on(typed, models, tmp_path):
    (tmp_path / "long.txt").write_text(LONG_PROMPT)
    terminal = typed(UNTIL_SIGNAL + PREFILL)
    terminal.until(PROMPT)
    terminal.type(f"/read {tmp_path}/long.txt\r")
    terminal.until(r"\[waiting\]")
    terminal.type("\x03")
    assert "[step]" not in terminal.until("the message was dropped")
    assert_in_step(terminal, models, tmp_path)


def test_a_chat_stops_answering_and_goes_on(typed, models, tmp_path):
    terminal = typed()
    terminal.until(PROMPT)
    terminal.type("hello\r")
    terminal.until("hello")
    terminal.until("[a-zA-Z ]{30}")  # the answer streams
    terminal.type("\x03")
    terminal.until("interrupted")
    assert_in_step(terminal, models, tmp_path)


def assert_in_step(terminal, models, tmp_path):
    """The next answer is the one that the same conversation gets from caches made anew."""
    files = [tmp_path / name for name in ("stopped.json", "went on.json", "anew.json")]
    stopped, went_on, anew = files
    commands = (f"/save {stopped}", "/set max-tokens 40", "second", f"/save {went_on}")
    for line, end in zip(
        commands, ("saved to", "", "cut at --max-tokens", "saved to"), strict=True
    ):
        terminal.until(PROMPT)
        terminal.type(f"{line}\r")
        terminal.until(end)
    terminal.until(PROMPT)
    terminal.type("\x04")
    assert terminal.leave() == 0
    chat = ("chat", *models, "-qm", "40", "--tau", ".9", "--resume", stopped)
    assert blendin(*chat, stdin=f"second\n/save {anew}\n".encode()).returncode == 0
    before, one, other = (json.loads(file.read_text())["messages"] for file in files)
    assert one == other
    assert one[: len(before)] == before
    assert len(one[-1]["content"]) > 40
