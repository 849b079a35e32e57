"""What users of other programs type works, or is answered with what to use."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from blendin_cli.chat import completion
from blendin_cli.habits import ELSEWHERE
from blendin_cli.main import cli
from blendin_cli.options.settings import METHODS
from blendin_models.catalogue import entries


@pytest.mark.parametrize("name", ELSEWHERE)
def test_commands_of_other_programs_point_to_ours(run, name):
    result = run(name)
    assert result.code == 2
    assert f"; use {ELSEWHERE[name]} (see blendin --help)" in result.error()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("pull", "demo"), "blendin models pull demo"),
        (("rm", "a b", "-f", "c"), "blendin models remove 'a b' c"),
        (("import", "m.gguf"), "blendin models import m.gguf"),
        (("prompt", "What is 2?"), "blendin generate 'What is 2?'"),
        (("create", "mine"), "blendin models import FILE.gguf"),
        (("ls", "demo"), "blendin models list"),
        (("models", "rm", "demo"), "blendin models remove demo"),
    ],
)
def test_suggested_commands_have_the_typed_names(run, typed, meant):
    assert f"; use {meant} (see " in run(*typed).error()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("genrate", "hi"), "did you mean 'generate'? (see blendin --help)"),
        (("models", "pul", "hi"), "did you mean 'pull'? (see blendin models --help)"),
        (("help", "trace", "veiw"), "did you mean 'view'? (see blendin trace --help)"),
        (("xyzzy",), "'xyzzy' is not a command (see blendin --help)"),
    ],
)
def test_a_command_that_is_nearly_one_is_suggested(run, typed, said):
    assert run(*typed).error().endswith(said)


def test_version_and_help_work_as_commands(run):
    assert run("version").out == run("--version").out
    assert run("help").out == run("--help").out
    assert run("help", "models", "pull").text.split("\n", 1) == (
        run("models", "pull", "--help").text.split("\n", 1)
    )
    assert run("help", "modls").code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("chat", "demo"), "blendin chat --pair demo"),
        (("diagnose", "demo"), "blendin diagnose --pair demo"),
        (("run", "demo"), "blendin chat --pair demo"),
        (("chat", "gemma-3-270m"), "is a model: blendin chat --base MODEL"),
        (("chat", "hello"), "messages are typed after the start"),
        (("generate", "-p", "hi"), 'blendin generate "PROMPT"'),
        (("chat", "--prompt", "hi"), 'blendin generate "PROMPT"'),
        (("generate", "--model", "x"), "--base MODEL --aligned MODEL"),
        (("generate", "--pair", "gemma-3-270m", "hi"), "is a model, not a pair"),
    ],
)
def test_foreign_commands_get_a_suggestion(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.code in (2, 3)
    assert said in result.error()


def test_a_value_from_elsewhere_names_its_source(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLENDIN_GENERATE_TAU", "7")
    assert "(set by BLENDIN_GENERATE_TAU)" in run("generate", "hi").error()
    assert "BLENDIN_GENERATE_TAU: --tau 7" in run("config", "show").error()
    monkeypatch.delenv("BLENDIN_GENERATE_TAU")
    (tmp_path / "blendin.toml").write_text("temp = -1\n")
    assert "(set by blendin.toml: temp)" in run("generate", "hi").error()
    assert "blendin.toml: --temp -1" in run("config", "show").error()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_for_each_shell(run, shell):
    script = run("completion", shell).text
    assert "_BLENDIN_COMPLETE" in script
    assert "blendin" in script


@pytest.mark.parametrize(
    ("before", "begun", "found"),
    [
        (["chat", "--pair"], "de", "demo"),
        (["chat", "--base"], "gemma-3-2", "gemma-3-270m"),
        (["generate", "--aligned"], "smol", "smollm2-135m-instruct"),
        (["generate", "--base-template"], "tr", "transcript"),
        (["models", "show"], "demo", "demo"),
        (["models", "pull"], "gemma-3-2", "gemma-3-270m"),
    ],
)
def test_shell_completes_names(before, begun, found):
    items = ShellComplete(cli, {}, "blendin", "_BLENDIN_COMPLETE").get_completions(before, begun)
    assert found in [item.value for item in items]


@pytest.fixture
def in_chat():
    command = cli.commands["chat"]
    with command.context_class(command, info_name="chat"):
        yield


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("/", "/method"),
        ("/method ", "kad"),
        ("/show b", "blend"),
        ("/think ", "hide"),
        ("/set ", "max-tokens"),
        ("/set stop-policy ", "either"),
    ],
)
def test_arguments_are_completed_in_a_chat(in_chat, before, found):
    assert found in completion.words(before)


def test_messages_are_not_completed_in_a_chat(in_chat):
    assert completion.words("method ") == completion.words("/set tau ") == []
    assert completion.words("/method ") == list(METHODS)
    assert "demo" in entries.pairs()
