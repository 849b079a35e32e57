"""Names, sources, settings and messages from files: on a terminal they can only be read."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from pathlib import Path

import pytest
from huggingface_hub import constants

from blendin_cli.terminal import output, progress
from blendin_mlx.reading.context import Context
from blendin_models.catalogue import entries
from recorded_traces import write_trace
from tiny_folders import write_model

ESCAPE = "\x1b]52;c;aGk=\x07\x9b2J\u202e"
IN_TOML = json.dumps(ESCAPE)
CLI = Path(output.__file__).parents[1]
PRINTS = re.compile(r"click\.s?echo\(|(?<![.\w])print\(|sys\.std(out|err)\.(buffer|write)|secho\(")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory, and folders that hold foreign strings."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BLENDIN_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no hub cache"))
    monkeypatch.chdir(tmp_path)
    entries._catalogue.cache_clear()
    yield tmp_path
    entries._catalogue.cache_clear()


@pytest.fixture
def shown(run, monkeypatch):
    """``shown("models", "list")``: the command on a terminal."""

    def command(*arguments):
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
        return run(*arguments)

    return command


@pytest.fixture
def kept(place):
    """A model whose record names a hostile source."""
    folder = write_model(place / "home" / "models" / "mine", 1)
    record = {"source": f"from {ESCAPE}", "revision": f"at {ESCAPE}"}
    (folder / "blendin.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def pairs(place):
    """A catalogue of the user's with a hostile description."""
    folder = place / "config" / "pairs"
    folder.mkdir(parents=True)
    (folder / "more.toml").write_text(
        f'[pairs.odd]\nbase = "gemma-3-270m"\naligned = "smollm2-135m-instruct"\n'
        f"description = {IN_TOML}\nnote = {IN_TOML}\n"
    )


def assert_readable(shown):
    """Nothing is left of a hostile string but what can be read; colours are our own."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "]52;c;aGk=" in plain
    assert not set(plain) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize(
    "command",
    [
        ("models", "list"),
        ("models", "list", "--json"),
        ("models", "show", "odd"),
        ("models", "show", "odd", "--json"),
        ("models", "show", "mine"),
        ("models", "suggest"),
        ("config", "show"),
        ("config", "show", "--json"),
        ("generate", "--help"),
    ],
    ids=" ".join,
)
def test_strings_from_files_are_made_harmless(shown, place, kept, pairs, command):
    key = "method" if command[0] == "generate" else "stop"  # help shows defaults unchecked
    (place / "blendin.toml").write_text(f"{key} = {IN_TOML}\nsystem = {IN_TOML}\n")
    result = shown(*command)
    assert result.code == 0
    assert_readable(result.text)


def test_strings_for_a_pipe_are_unchanged(run, place):
    (place / "blendin.toml").write_text(f"system = {IN_TOML}\n")
    assert ESCAPE in run("config", "show").text


def test_quotes_in_errors_are_made_harmless(shown, place):
    (place / "blendin.toml").write_text(f"{IN_TOML} = 3\n")
    assert_readable(shown("generate", "hi").err)
    debugged = shown("--debug", "models", "show", ESCAPE)
    assert debugged.code == 3
    assert_readable(debugged.err)


def test_a_mismatch_of_a_trace_is_made_harmless(shown, tiny, place, monkeypatch):
    trace = place / "run.jsonl"
    assert shown("generate", *tiny, "-qm", 2, "--trace", trace, "hi").code == 0
    first, step, *rest = trace.read_text().splitlines()
    changed = json.dumps({**json.loads(step), "text": ESCAPE})
    trace.write_text("\n".join([first, changed, *rest]))
    result = shown("trace", "verify", trace)
    assert result.code == 1
    assert "step 0: text is recorded as" in " ".join(result.err.split())
    assert not set(result.err) & set("\x07\x9b\u202e")


def test_a_progress_bar_shows_names_as_text(monkeypatch, capsysbinary):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "150")
    with progress.progress() as report:
        report(f"{ESCAPE}[red]x[/red]", 1, 2)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsysbinary.readouterr().err.decode())
    assert "]52;c;aGk=" in shown
    assert "[red]x[/red]" in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e")


def test_only_one_module_prints():
    """Whatever is printed goes through the filter there."""
    found = [
        file.name
        for file in sorted(CLI.rglob("*.py"))
        if file.name not in ("output.py", "reference_docs.py", "status.py")
        and PRINTS.search(file.read_text())
    ]
    assert found == []


def test_a_name_that_has_no_bytes_is_shown_all_the_same(run, place):
    trace = write_trace(place / "run.jsonl")
    lines = trace.read_text().splitlines()
    begun = json.loads(lines[0])
    begun["models"]["base"]["name"] = "big\ud800"
    trace.write_text("\n".join([json.dumps(begun), *lines[1:]]))
    assert "big\\ud800" in run("trace", "view", "--marks", trace).text


@pytest.mark.parametrize("quiet", [True, False])
def test_warnings_of_libraries_reach_stderr_only_where_it_is_not_quiet(
    run, tiny, monkeypatch, quiet
):
    log = logging.getLogger("a library")
    monkeypatch.setattr(log, "handlers", [logging.StreamHandler(sys.stderr)])
    forward = Context._forward

    def noisy(self, ids):
        log.warning("logged")
        logging.getLogger("another").error("an error, by the handler of last resort")
        if quiet:  # else pytest would make an error of it
            warnings.warn("warned", UserWarning, stacklevel=1)
        return forward(self, ids)

    monkeypatch.setattr(Context, "_forward", noisy)
    result = run("generate", *tiny, "-m", 2, *(["-q"] if quiet else []), "hi")
    assert result.code == 0
    assert ("logged" in result.err) is not quiet
    if quiet:
        assert result.err == ""
    logging.getLogger("after").warning("what follows a quiet command")
    assert logging.root.manager.disable == logging.NOTSET
