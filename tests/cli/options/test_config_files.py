"""Settings from files: which of them hold, where they come from, and what is wrong with them."""

from __future__ import annotations

import importlib
import json

import pytest


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A working directory and a config folder, both empty."""
    (tmp_path / "work").mkdir()
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("BLENDIN_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def own(folders):
    return folders / "config" / "config.toml"


@pytest.fixture
def local(folders):
    return folders / "work" / "blendin.toml"


def blend(run, tiny, *options):
    return json.loads(run("generate", *tiny, "--json", "-q", "-m", "2", *options, "hi").text)[
        "blend"
    ]


def test_precedence_of_places(run, tiny, own, local, monkeypatch):
    assert blend(run, tiny)["tau"] == 0.4
    own.write_text("tau = 0.1")
    assert blend(run, tiny)["tau"] == 0.1
    own.write_text("tau = 0.1\n[generate]\ntau = 0.15")
    assert blend(run, tiny)["tau"] == 0.15
    local.write_text("tau = 0.2")
    assert blend(run, tiny)["tau"] == 0.2
    monkeypatch.setenv("BLENDIN_GENERATE_TAU", "0.3")
    assert blend(run, tiny)["tau"] == 0.3
    assert blend(run, tiny, "--tau", "0.5")["tau"] == 0.5


def test_a_table_is_for_its_command_alone(run, tiny, own):
    own.write_text('[chat]\nmethod = "base"\n[generate]\nmax-tokens = 1\nstop = ["x", "y"]')
    assert blend(run, tiny)["method"] == "blendin"
    told = json.loads(run("generate", *tiny, "--json", "-q", "hi").text)
    assert told["usage"]["completion_tokens"] == 1


def test_show_says_where_each_value_comes_from(run, own, local, monkeypatch):
    for command in ("GENERATE", "CHAT", "RUN"):
        monkeypatch.delenv(f"BLENDIN_{command}_DRAFT")
    assert "nothing is set" in run("config", "show").text
    own.write_text('tau = 0.1\nbase_template = "plain"\n[chat]\nlambda = 0.2')
    local.write_text("[generate]\ntau = 0.2")
    monkeypatch.setenv("BLENDIN_RUN_TAU", "0.7")
    rows = json.loads(run("config", "show", "--json").text)
    found = {(row["command"], row["option"]): (row["value"], row["source"]) for row in rows}
    assert found["generate", "--tau"] == (0.2, "blendin.toml")
    assert found["chat", "--tau"] == (0.1, str(own))
    assert found["run", "--tau"] == ("0.7", "BLENDIN_RUN_TAU")
    assert found["chat", "--base-template"] == ("plain", str(own))
    assert found["chat", "--lambda"] == (0.2, str(own))
    assert ("generate", "--lambda") not in found
    everything = json.loads(run("config", "show", "--all", "--json").text)
    defaults = {
        (r["command"], r["option"]): r["value"] for r in everything if r["source"] == "default"
    }
    assert defaults["generate", "--method"] == "blendin"
    assert any(
        "--tau" in line and line.endswith("blendin.toml")
        for line in run("config", "show").text.splitlines()
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("taw = 0.3", "'taw' is not an option; did you mean tau?"),
        ("[generate]\nresume = 1", "[generate]: 'resume' is not an option"),
        ("[generat]\ntau = 1", "'generat' is not a command"),
        ("tau = ", "cannot be read: "),
        ("tau = 3", "Invalid value for '--tau': 3.0 is not in the range 0<=x<=1"),
        ('tau = "much"', "Invalid value for '--tau'"),
        ("tau = nan", "is not a finite number"),
        ("tau = [1]", "'tau' must be a text or a number"),
        ('trace = "precious.txt"', "'trace' names a file to write"),
        ('[diagnose]\nhtml = "precious.txt"', "'html' names a file to write"),
    ],
)
def test_a_mistake_is_one_line(run, tiny, local, text, said):
    local.write_text(text)
    result = run("generate", *tiny, "hi")
    assert result.code == 2
    assert said in result.error()


def test_a_file_that_is_not_utf8_is_one_line(run, local):
    local.write_bytes(b"\xff\xfe")
    assert "blendin.toml cannot be read: " in run("generate", "hi").error()


def test_help_and_what_takes_no_settings_work_where_a_file_is_wrong(run, local):
    local.write_text("tau = ")
    assert run("generate", "--help").code == 0
    assert run("doctor").code == 0
    assert run("models", "list").code == 0
    assert run("config", "show").code == 2


def test_a_text_stands_for_a_list_of_one(run, tiny, local):
    local.write_text('stop = "e"')
    told = json.loads(run("generate", *tiny, "--json", "-q", "-m", 60, "hi").text)
    assert told["finish_reason"] == "stop_string"


def test_a_pair_comes_before_models_that_are_set_farther_away(run, tiny, own, local, monkeypatch):
    seen = []
    generate = importlib.import_module("blendin_cli.generate")
    monkeypatch.setattr(generate, "Session", lambda settings, *_: seen.append(settings) or 1 / 0)
    models = f'base = "{tiny[1]}"\naligned = "{tiny[3]}"\n'
    adapted = f'{models}aligned_adapter = "own"\nbase_adapter = "own"\n'
    asked = []
    for text, user, options in [
        (adapted, "", ("--pair", "demo")),
        ('pair = "demo"', adapted, ()),
        (models, 'pair = "demo"', ()),
        ('pair = "demo"', "", tiny),
    ]:
        local.write_text(text)
        own.write_text(user)
        run("generate", *options, "hi")
        guides = [one.name for one in seen[-1].aligned]
        asked.append((seen[-1].pair, seen[-1].base, guides, seen[-1].aligned_adapter))
    assert asked == [("demo", None, [], None)] * 2 + [("demo", tiny[1], [tiny[3]], None)] * 2


@pytest.mark.parametrize("method", ["base", "ensemble", "kad", "nudging"])
def test_options_of_methods_in_a_file_are_for_those_that_have_them(run, tiny, local, method):
    local.write_text("tau = 0.3\nalpha = 0.3\nlambda = 0.3")
    told = blend(run, tiny, "--method", method)
    assert told["tau"] == (0.3 if method == "nudging" else None)
    assert told.get("lambda") == (0.3 if method == "kad" else None)
    refused = run("generate", *tiny, "--method", method, "--beta", 0.3, "hi")
    assert refused.code == 2
    assert "it does not take --beta" in refused.error()


@pytest.mark.parametrize("text", ["tau = 7", "[generate]\ntau = 7"])
def test_a_refused_value_of_a_file_names_file_and_key(run, tiny, local, text):
    local.write_text(text)
    result = run("generate", *tiny, "hi")
    assert result.code == 2
    assert "'--tau'" in result.error()
    assert "(set by blendin.toml: tau)" in result.error()


def test_a_refused_value_of_the_environment_names_the_variable(run, tiny, monkeypatch):
    monkeypatch.setenv("BLENDIN_GENERATE_TAU", "7")
    assert "(set by BLENDIN_GENERATE_TAU)" in run("generate", *tiny, "hi").error()
    assert "(see blendin generate --help)" in run("generate", *tiny, "--tau", "7", "hi").error()


def test_a_key_is_never_shown(run, monkeypatch):
    monkeypatch.setenv("BLENDIN_SERVE_API_KEY", "sesame")
    shown = run("config", "show").text
    assert "sesame" not in shown
    assert "(hidden)" in shown
