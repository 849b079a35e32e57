"""What docs/serve.md says works as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands import DEADLINE_S
from served_pair import served_pair

PAGE = (Path(__file__).parents[3] / "docs" / "serve.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CURL = [line for language, block in BLOCKS for line in block.splitlines() if line[:5] == "curl "]


@pytest.fixture(scope="module")
def demo(tiny_demo):
    """A server that calls its tiny models ``demo``, as on the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLENDIN_HOME", str(tiny_demo))
        with served_pair("--max-tokens", 8) as server:
            assert server.model == "demo"
            yield server


def here(text, server):
    """The page's text, with the address of a server that runs."""
    return text.replace("http://127.0.0.1:8080", server.address.url)


@pytest.mark.parametrize("line", CURL)
def test_a_command_works_when_pasted(demo, line):
    told = subprocess.run(
        ["bash", "-c", here(line, demo)], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert told.returncode == 0
    assert '"model": "demo"' in told.stdout or '"id": "demo"' in told.stdout


def test_python_example_runs(demo):
    (program,) = (block for language, block in BLOCKS if language == "py")
    line = [sys.executable, "-c", here(program, demo)]
    told = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (told.returncode, told.stderr) == (0, "")
    assert re.search(r" [01]\.\d*\n\Z", told.stdout)


def test_the_settings_of_llm_work(demo, tmp_path):
    (settings,) = (block for language, block in BLOCKS if "model_id" in block)
    (tmp_path / "extra-openai-models.yaml").write_text(here(settings, demo))
    (line,) = (b for language, b in BLOCKS if b.startswith("llm "))
    told = subprocess.run(
        ["bash", "-c", line.replace("llm", f"{sys.executable} -m llm", 1)],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.strip()


def test_settings_of_other_programs_are_well_formed():
    import yaml

    (editor,) = (block for language, block in BLOCKS if language == "json")
    assert json.loads(editor)["language_models"]
    for language, block in BLOCKS:
        assert language != "yaml" or yaml.safe_load(block)
