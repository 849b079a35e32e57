"""Chat templates write what transformers and mlx-lm make of them, byte for byte."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blendin_mlx.chat_template import render
from blendin_mlx.chat_template.render import TemplateError, render_chat, render_text
from blendin_mlx.model import Pair
from texts import PUBLISHED
from tiny import load_tokenizer

USER = {"role": "user", "content": " Hi <b>é</b>.\n"}
ANSWER = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nHello!"}
SYSTEM = {"role": "system", "content": "Be brief.\n"}
CONVERSATIONS = ([USER], [SYSTEM, USER], [USER, ANSWER, USER], [SYSTEM, USER, ANSWER])


def written_by_both(
    tokenizer: Any, source: str, messages: list[dict[str, str]], **options: Any
) -> tuple[str, str]:
    theirs = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return render_chat(tokenizer, source, messages, **options), theirs


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("generation", [True, False])
@pytest.mark.parametrize("options", [{}, {"enable_thinking": True}, {"enable_thinking": False}])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates_write_what_transformers_says(
    published_tokenizer: Callable[[str], Path],
    name: str,
    options: dict[str, bool],
    generation: bool,
    messages: list[dict[str, str]],
) -> None:
    tokenizer = load_tokenizer(published_tokenizer(name))
    options = {**options, "add_generation_prompt": generation}
    ours, theirs = written_by_both(tokenizer, tokenizer.chat_template, messages, **options)
    assert ours == theirs
    assert "Hi <b>é</b>." in ours


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("generation", [True, False])
def test_the_demo_models_template_writes_what_mlx_lm_says(
    demo_pair: Pair, generation: bool, messages: list[dict[str, str]]
) -> None:
    guide = demo_pair.aligned
    assert guide.chat_template is not None
    ours, theirs = written_by_both(
        guide.tokenizer, guide.chat_template, messages, add_generation_prompt=generation
    )
    assert ours == theirs


def test_a_tokenizer_that_can_think_is_told_to_as_mlx_lm_does(
    published_tokenizer: Callable[[str], Path],
) -> None:
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    tokenizer = TokenizerWrapper(load_tokenizer(published_tokenizer("qwen3")))
    source = "{{ enable_thinking }}"
    for options in ({}, {"enable_thinking": False}):
        theirs = tokenizer.apply_chat_template(
            [USER], tokenize=False, chat_template=source, **options
        )
        assert render_chat(tokenizer, source, [USER], **options) == theirs


def test_a_base_template_keeps_its_last_line_break() -> None:
    assert render_text("{% if a %}\n{{ a }}\n{% endif %}\n\n", a="x<") == "x<\n\n"


def test_a_process_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = render.LimitedProcess([sys.executable, "-c", "import nothing_there"], Path.cwd())
    monkeypatch.setattr(render, "_process", lambda: failing)
    with pytest.raises(TemplateError, match="the process that renders it ended with code 1"):
        render_text("x")


def test_the_process_imports_nothing_but_jinja_and_the_standard_library() -> None:
    imported = {
        (name.module or "") if isinstance(name, ast.ImportFrom) else alias.name
        for name in ast.walk(ast.parse(render.CHILD.read_text()))
        if isinstance(name, (ast.Import, ast.ImportFrom))
        for alias in name.names
    }
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names == {"jinja2"}


def test_what_lies_in_the_working_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("jinja2", "json", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    render._process().stop()
    assert render_text("x") == "x"
    assert not list(tmp_path.rglob("ran"))
    assert not (render.CHILD.parent / "ran").exists()


def test_an_installed_copy_has_the_process() -> None:
    """Every package of ours is listed for the wheel."""
    if sys.version_info < (3, 11):
        pytest.skip("Python's own reader of TOML came with 3.11")
    import tomllib

    root = Path(__file__).parents[3]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name: root / folder for name, folder in settings["package-dir"].items()}
    ours = {
        ".".join((name, *file.parent.relative_to(folder).parts))
        for name, folder in folders.items()
        for file in folder.rglob("*.py")
    }
    assert ours == set(settings["packages"])


def test_the_program_ends_its_process(tmp_path: Path) -> None:
    """At exit the child is killed and waited for: what is told last is that it is gone."""
    code = (
        "import atexit, json, os\n"
        "def gone():\n"
        "    try:\n"
        "        os.kill(pid, 0)\n"
        "    except ProcessLookupError:\n"
        "        print(json.dumps('gone'))\n"
        "atexit.register(gone)\n"
        "from blendin_mlx.chat_template import render\n"
        "render.render_text('x')\n"
        "pid = render._process().pid\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(ended.stdout) == "gone"
