"""``blendin eval``: the harness's results, what is kept of them, and what is wrong in one line."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from pathlib import Path

import pytest

from blendin_cli.eval.__main__ import main as harness_command
from blendin_cli.eval.arguments import session_of
from commands import DEADLINE_S
from local_tasks import QUESTIONS, write_tasks
from prepared_python import HARNESS
from running import begin, blendin, interrupted, the_line

# Some Python before the command: it does something after so many continuations were scored.
AFTER = """
from blendin_cli.eval.model import BlendinLM
keep, kept = BlendinLM._keep, []
def _keep(self, *response):
    keep(self, *response)
    kept.append(response)
    if len(kept) == 4:
        len(self.cache_hook.dbdict)  # what was put in before is read, so it was written
        {}
BlendinLM._keep = _keep
"""
KILLED = AFTER.format("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def few_tasks(tmp_path, monkeypatch):
    """A harness with no tasks of its own: to look through all it has takes seconds."""
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(tmp_path / "none" / "manager.py"))
    (tmp_path / "none").mkdir()


@pytest.fixture
def folder(tmp_path):
    return write_tasks(tmp_path / "tasks")


@pytest.fixture
def evaluated(run, tiny, folder):
    """``evaluated("choices", *options)``: the command over local tasks."""

    def call(tasks, *options):
        return run("eval", *tiny, "--tasks", tasks, "--include-path", folder, *options)

    return call


def results_in(folder):
    (file,) = folder.rglob("results_*.json")
    return json.loads(file.read_text())


@pytest.fixture
def scored(monkeypatch):
    """The continuations that were scored and not taken from what is kept."""
    from blendin_cli.eval.scoring import Scorer

    asked, plain = [], Scorer.continuation

    def continuation(self, *request):
        asked.append(request)
        return plain(self, *request)

    monkeypatch.setattr(Scorer, "continuation", continuation)
    return asked


def test_results_are_the_harness_own(evaluated, tmp_path):
    out = tmp_path / "out"
    told = evaluated(
        "choices,words,texts", "--method", "ensemble", "--output", out, "--log-samples"
    )
    assert told.code == 0, told.err
    for name in ("choices", "words", "texts", "acc_norm", "bits_per_byte", "exact_match"):
        assert name in told.text
    found = results_in(out)
    assert set(found["results"]) == {"choices", "words", "texts"}
    assert 0 <= found["results"]["choices"]["acc,none"] <= 1
    assert found["n-samples"]["words"] == {"original": 3, "effective": 3}
    config = found["config"]
    assert config["model"] == "blendin"
    assert config["method"] == "ensemble"
    assert config["model_args"]["method"] == "ensemble"
    assert set(config["models"]) == {"base", "aligned"}
    assert config["versions"]["blendin-mlx"]
    assert found["model_source"] == "blendin"
    blend = found["blend"]
    assert all(0 < blend[task]["intervention_rate"] <= 1 for task in blend)
    assert config["tokens"] == sum(counts["tokens"] for counts in blend.values())
    assert f"{blend['choices']['interventions']} of {blend['choices']['tokens']}" in told.text
    samples = {path.name.split("_")[1]: path for path in out.rglob("samples_*.jsonl")}
    assert set(samples) == {"choices", "words", "texts"}
    lines = [json.loads(line) for line in samples["choices"].read_text().splitlines()]
    assert [line["doc"] for line in lines] == QUESTIONS
    assert "wrote" in told.err


def test_limit_and_examples(evaluated, scored):
    assert evaluated("choices", "--limit", 2, "--num-fewshot", 1, "-q").code == 0
    contexts = list(dict.fromkeys(context for context, _ in scored))
    assert len(contexts) == 2
    assert all(context.count("Question:") == 2 for context in contexts)


def test_options_of_a_question_stand_together(evaluated, scored):
    evaluated("choices", "-q")
    assert scored == [
        (f"Question: {one['q']}\nAnswer:", f" {choice}") for one in QUESTIONS for choice in one["c"]
    ]


def test_what_was_answered_is_kept_for_the_same_pair_method_and_settings(evaluated, scored):
    first = evaluated("choices,words,texts", "-q")
    assert len(scored) == 9
    assert evaluated("choices,words,texts", "-q").text == first.text
    assert len(scored) == 9
    for other in (("--tau", 0.9), ("--method", "nudging"), ("--kv-bits", 8), ("--dial", 0.5)):
        before = len(scored)
        assert evaluated("choices", "-q", *other).code == 0
        assert len(scored) == before + 9


def test_other_weights_have_their_own(run, folder, tiny, tmp_path, scored):
    from tiny_folders import write_model

    write_model(tmp_path / "other", 3)
    asked = ("--tasks", "choices", "--include-path", folder, "-q")
    run("eval", *tiny, *asked)
    run("eval", *tiny[:2], "--aligned", tmp_path / "other", *asked)
    assert len(scored) == 18


@pytest.mark.parametrize("task", ["choices", "words"])
def test_a_killed_evaluation_goes_on(evaluated, tiny, folder, tmp_path, task):
    line = ("eval", *tiny, "--tasks", task, "--include-path", folder)
    code = KILLED.replace("== 4", "== 2") if task == "words" else KILLED
    process = begin(*line, code=code, imports=HARNESS)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGKILL
    resumed = evaluated(task, "--output", tmp_path / "resumed")
    left = 1 if task == "words" else 5
    assert f"{left} of {left} request" in resumed.err
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    whole = evaluated(task, "--output", tmp_path / "whole")
    assert resumed.text == whole.text
    one, other = (results_in(tmp_path / name) for name in ("resumed", "whole"))
    assert one["blend"] == other["blend"]
    assert one["config"]["tokens"] == other["config"]["tokens"]


def test_interrupt_keeps_what_was_answered(evaluated, tiny, folder):
    line = ("eval", *tiny, "--tasks", "choices", "--include-path", folder)
    told = interrupted(*line, code=AFTER.format("until_signal()"), imports=HARNESS)
    assert told.returncode == 130
    assert told.stdout == b""
    assert b"run it again to go on" in told.stderr
    assert "5 of 5 requests" in evaluated("choices").err


def test_a_chat_asks_as_in_generate(evaluated, scored):
    from blendin_cli.eval.conversations import conversation_of

    told = evaluated("choices,begun", "--apply-chat-template", "--system", "Be brief.", "-q")
    assert told.code == 0, told.err
    read = [conversation_of(context) for context, _ in scored]
    assert {one["role"] for one in read[0].messages} == {"system", "user"}
    assert {one.begun for one in read} == {"", "It is"}


@pytest.mark.usefixtures("few_tasks")
def test_the_command_line_of_the_harness_knows_the_model(
    tiny, folder, tmp_path, evaluated, monkeypatch
):
    out = tmp_path / "out"
    named = f"base={tiny[1]},aligned={tiny[3]},method=nudging,tau=0.3,thinking=False"
    line = ["lm-eval", "run", "--model", "blendin", "--model_args", named, "--tasks", "choices"]
    line += ["--include_path", str(folder), "--output_path", str(out), "--batch_size", "2"]
    monkeypatch.setattr(sys, "argv", line)
    assert harness_command() == 0
    theirs = results_in(out)
    assert theirs["config"]["tau"] == 0.3
    assert theirs["config"]["intervention_rate"] is not None
    evaluated("choices", "--method", "nudging", "--tau", 0.3, "--output", tmp_path / "ours")
    ours = results_in(tmp_path / "ours")
    assert theirs["results"] == ours["results"]
    assert theirs["config"]["tokens"] == ours["config"]["tokens"]


def test_the_command_line_of_the_harness_names_a_wrong_argument(monkeypatch, capsys):
    monkeypatch.setattr(
        "lm_eval.__main__.cli_evaluate", lambda: session_of({"methd": "nudging"}, None)
    )
    assert harness_command() == 2
    assert capsys.readouterr().err.startswith("blendin: No such option '--methd'")


def test_arguments_are_the_options(tiny):
    given = {"base": tiny[1], "aligned": tiny[3], "method": "kad", "lambda": 0.2, "kv_bits": 8}
    session, batch = session_of({**given, "wired_limit": False}, "auto:4")
    assert (session.settings.lambda_, session.settings.kv_bits, batch) == (0.2, 8, None)


def test_without_the_extra_it_says_what_to_install(run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lm_eval" else find(name)
    )
    told = run("eval", "--tasks", "choices")
    assert "pip install 'blendin-mlx[eval]'" in told.error()
    assert told.code == 2


@pytest.mark.usefixtures("few_tasks")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tasks", "choises"), "there is no task choises; did you mean choices?"),
        (("--tasks", ","), "it names no task"),
        (("--tasks", "choices", "--limit", 0), "--limit"),
        (("--tasks", "choices", "--log-samples"), "pass --output too"),
        (("--tasks", "choices", "--output", "/dev/null/x"), "--output: cannot write to"),
        (("--tasks", "choices", "--method", "base", "--tau", 0.3), "does not take --tau"),
        ((), "--tasks"),
    ],
)
def test_usage_is_checked_before_anything_is_loaded(run, tiny, folder, options, said, monkeypatch):
    monkeypatch.setattr("blendin_cli.session.load_pair", lambda *_: pytest.fail("loaded"))
    told = run("eval", *tiny, "--include-path", folder, *options)
    assert said in told.error()
    assert told.code == 2


def test_a_bad_line_of_a_task_is_one_error(tiny, folder):
    with (folder / "questions.jsonl").open("a") as file:
        file.write("{this is not JSON\n")
    line = ("eval", *tiny, "--include-path", folder, "--tasks", "choices")
    told = blendin(*line, imports=HARNESS)
    assert "task choices cannot be loaded" in the_line(told, 1)


def test_a_line_that_the_task_cannot_read_is_one_error(tiny, tmp_path):
    folder = write_tasks(tmp_path / "odd", questions=[{"q": "Why?", "a": 0}])
    line = ("eval", *tiny, "--include-path", folder, "--tasks", "choices", "-q")
    told = blendin(*line, imports=HARNESS)
    assert "task choices cannot be loaded" in the_line(told, 1)


def test_what_cannot_be_asked_for_is_one_error(tiny, tmp_path):
    folder = write_tasks(tmp_path / "beams", ["beams"])
    line = ("eval", *tiny, "--include-path", folder, "--tasks", "beams", "-q")
    told = blendin(*line, imports=HARNESS)
    assert "num_beams=4" in the_line(told, 1)


def test_a_damaged_file_of_kept_responses_is_named(evaluated, home):
    assert evaluated("choices", "-q").code == 0
    (file,) = (home / "evaluations").iterdir()
    file.write_bytes(b"no database at all, but long enough to be taken for one" * 99)
    told = evaluated("choices", "-q")
    assert f"{file} is damaged" in told.error()
    assert told.code == 1


NO_NETWORK = """
import socket
def refuse(*given): raise AssertionError(f"the network was asked: {given}")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
"""


def test_local_tasks_ask_no_network_and_no_repository(tiny, folder, tmp_path):
    """In a fresh process, as what libraries show and ask is set before they are imported."""
    line = ("eval", *tiny, "--tasks", "choices", "--include-path", folder, "-q")
    told = blendin(*line, code=NO_NETWORK, cwd=tmp_path, fresh=True)
    assert (told.returncode, told.stderr) == (0, b"")
    assert Path(tmp_path / "home" / "evaluations").is_dir()


def test_what_is_not_on_this_machine_is_not_fetched_unasked(tiny, tmp_path, monkeypatch):
    """In a fresh process, with all tasks of the harness."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    told = blendin("eval", *tiny, "--tasks", "openbookqa", code=NO_NETWORK, fresh=True)
    (line,) = told.stderr.decode().splitlines()
    assert "task openbookqa cannot be loaded" in line
    assert "--fetch" in line
    assert told.returncode == 1
