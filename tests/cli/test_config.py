"""Settings from files: which of them hold, where they come from, and what is wrong with them."""

from __future__ import annotations

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


def test_the_nearer_place_wins(run, tiny, own, local, monkeypatch):
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
        ("taw = 0.3", "'taw' is no option; did you mean tau?"),
        ("[generate]\nresume = 1", "[generate]: 'resume' is no option"),
        ("[generat]\ntau = 1", "'generat' is no command"),
        ("tau = ", "cannot be read: "),
        ("tau = 3", "Invalid value for '--tau': 3.0 is not in the range 0<=x<=1"),
        ('tau = "much"', "Invalid value for '--tau'"),
        ("tau = nan", "is no finite number"),
    ],
)
def test_a_mistake_is_one_line(run, tiny, local, text, said):
    local.write_text(text)
    result = run("generate", *tiny, "hi")
    assert result.code == 2
    assert said in result.error()


def test_what_is_no_text_is_one_line(run, local):
    local.write_bytes(b"\xff\xfe")
    assert "blendin.toml cannot be read: " in run("generate", "hi").error()
