"""What is written about the commands is what they are: the reference, the README, completion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blendin_cli.main import cli
from blendin_cli.options.config_files import default_map
from blendin_cli.reference_docs import as_markdown
from prepared_python import program, run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WALKS = ("reference.md", "tour.md")  # one is generated, the other printed by a session
SHORT = {
    f"BLENDIN_{command}_MAX_TOKENS": "4" for command in ("GENERATE", "CHAT", "RUN", "BENCH")
} | {"BLENDIN_BENCH_ROUNDS": "1", "BLENDIN_TUNE_EXAMPLES": "good.jsonl"}


def test_the_reference_is_that_of_the_program():
    written = (ROOT / "docs" / "reference.md").read_text()
    assert written == as_markdown(cli), "blendin reference > docs/reference.md"


def test_every_command_has_help_and_examples():
    sections = as_markdown(cli).split("\n## ")[1:]
    assert len(sections) > 15
    for section in sections:
        assert re.search(r"```\nUsage: blendin.*\n\n  [A-Z]", section), section
        assert re.search(r"Examples?:\n|Try it: ", section), section


BLOCKS = [
    block
    for page in PAGES
    if page.name not in WALKS
    for block in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
]


def commands():
    """The shell lines of README and pages that a user would paste, each once."""
    return list(dict.fromkeys(_shell_lines()))


def _shell_lines():
    for language, block in BLOCKS:
        for line in block.splitlines() if not language else ():
            command = line.removeprefix("$ ")
            if re.match(r"(echo|cat|blendin) ", command) and "make" not in command:
                yield command


def environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **SHORT, "PATH": path, "HF_HUB_OFFLINE": "1"}


# What needs the network, or another model's gigabytes, is tested against a loopback hub.
HERE = [line for line in commands() if "HuggingFaceTB" not in line and "pull" not in line]


def test_the_readme_has_commands():
    assert len(HERE) > 8


@pytest.fixture(scope="module")
def programs():
    """A folder for the PATH, whose ``blendin`` starts at once."""
    with program("blendin", "-m", "blendin_cli") as file:
        yield file.parent


@pytest.mark.parametrize("line", HERE)
def test_a_command_of_the_readme_works_when_pasted(
    tiny_demo, programs, tmp_path, monkeypatch, line
):
    """Names and options are right and the exit is clean; answers are the business of others."""
    monkeypatch.setenv("BLENDIN_HOME", str(tiny_demo))
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Say hello."}\n{"prompt": "Again."}\n')
    (tmp_path / "good.jsonl").write_text('{"prompt": "Say hello.", "answer": "Hello!"}\n')
    (tmp_path / "answers.jsonl").write_text("")
    write_tasks_of_the_page(tmp_path / "tasks")
    (tmp_path / "nine.txt").write_text("Say hello.\n")
    if "trace" in line and "--trace" not in line:
        pasted("blendin generate -q --trace run.jsonl 'Why is the sky blue?'", tmp_path, programs)
    result = pasted(line, tmp_path, programs)
    assert result.returncode == 0, result.stderr
    assert result.stdout or result.stderr


def write_tasks_of_the_page(folder):
    page = (ROOT / "docs" / "eval.md").read_text()
    folder.mkdir()
    for language in ("yaml", "jsonl"):
        (block,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        (folder / f"capitals.{language}").write_text(block)


def test_the_python_of_the_readme_works(demo_folders):
    """With the real pair, as a reader runs it: it is installed, loads, and knows the answer."""
    code = next(block for language, block in BLOCKS if language == "python")
    line = [sys.executable, "-c", code]
    result = subprocess.run(line, env=environment(), capture_output=True, text=True, check=True)
    assert "Paris" in result.stdout
    assert result.stdout.endswith("of the tokens were interventions\n")


def test_the_chat_of_the_readme_works(tiny_demo, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tiny_demo))
    (typed,) = [
        re.findall("^> (.*)$", block, re.MULTILINE) for _, block in BLOCKS if "/why" in block
    ]
    assert len(typed) == 3
    line = [sys.executable, "-m", "blendin_cli", "chat"]
    lines = "\n".join(typed) + "\n"
    result = run(line, env=environment(), input=lines, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2  # the answer, and the one that /alt leads to
    assert "token 3: " in result.stderr


def test_the_settings_of_the_readme_are_settings(tmp_path, monkeypatch):
    tables = [block for language, block in BLOCKS if language == "toml"]
    (settings,) = [block for block in tables if "[chat]" in block]
    (tmp_path / "blendin.toml").write_text(settings)
    monkeypatch.chdir(tmp_path)
    assert default_map(cli)["chat"]["system"] == "Answer in one sentence."


def pasted(line, folder, programs):
    paths = environment()
    paths["PATH"] = f"{programs}{os.pathsep}{paths['PATH']}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=paths,
        input="What is the capital of France?\n" if "chat" in line else "",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_a_shell(shell):
    asked = {**os.environ, "_BLENDIN_COMPLETE": f"{shell}_source"}
    script = Path(sys.executable).with_name("blendin")
    result = subprocess.run([script], env=asked, capture_output=True, text=True, check=True)
    assert "_BLENDIN_COMPLETE" in result.stdout
    words = {
        "bash": {"COMP_WORDS": "blendin gen", "COMP_CWORD": "1"},
        "zsh": {"COMP_WORDS": "blendin gen", "COMP_CWORD": "1"},
        "fish": {"COMP_WORDS": "blendin gen", "COMP_CWORD": "gen"},
    }[shell]
    asked = {**os.environ, "_BLENDIN_COMPLETE": f"{shell}_complete", **words}
    result = subprocess.run([script], env=asked, capture_output=True, text=True, check=True)
    assert "generate" in result.stdout
