"""Programs in examples/ and blocks of docs/api.md run, with tiny models as the demo pair."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

import prepared_python

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MOST_LINES = 40


@pytest.fixture
def environment(tiny_demo):
    return {**os.environ, "BLENDIN_HOME": str(tiny_demo), "HF_HUB_OFFLINE": "1"}


def run(environment, folder, *line):
    result = prepared_python.run([sys.executable, *line], cwd=folder, env=environment, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_there_are_programs_to_copy():
    assert len(EXAMPLES) >= 4
    for program in EXAMPLES:
        assert len(program.read_text().splitlines()) <= MOST_LINES, program.name


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda program: program.stem)
def test_an_example_runs(environment, tmp_path, program):
    arguments = []
    if program.stem == "read_trace":
        options = ("-q", "-m", "6", "--trace", "run.jsonl", "Why is the sky blue?")
        run(environment, tmp_path, "-m", "blendin_cli", "generate", *options)
        arguments = ["run.jsonl"]
    assert run(environment, tmp_path, str(program), *arguments)


def test_the_blocks_of_the_interface_page_run_one_after_the_other(environment, tmp_path):
    page = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 6
    printed = run(environment, tmp_path, "-c", "\n".join(blocks))
    assert "guided by" in printed


def test_the_interface_page_names_what_is_exported():
    import blendin_mlx
    import blendin_models

    page = (ROOT / "docs" / "api.md").read_text()
    exported = {*blendin_mlx.__all__, *blendin_models.__all__}
    assert not sorted(name for name in exported if name not in page)
