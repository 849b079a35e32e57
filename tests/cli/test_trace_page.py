"""The page of a trace stands alone, and nothing in a trace becomes markup or script."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import Result
from recorded_traces import HOSTILE, write_trace

Run = Callable[..., Result]

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def test_the_page_fetches_nothing(run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl")
    assert run("trace", "html", path).code == 0
    page = (tmp_path / "t.html").read_text()
    assert not re.search(r"https?:|src=|@import|url\(", page.replace("script-src", ""))
    assert page.count('class="t ') == 3
    assert "τ = 0.4" in page


def test_hostile_text_stays_text(run: Run, tmp_path: Path) -> None:
    path, out = write_trace(tmp_path / "t.jsonl", HOSTILE), tmp_path / "out.html"
    assert run("trace", "html", path, path, "-o", out).code == 0
    page = out.read_text()
    assert page.count("<script>") == page.count("</script>") == 1
    assert not {"\u202e", "\x1b"} & set(page)
    assert page.count("<article") == 2


def test_a_trace_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl")
    before = path.read_bytes()
    assert run("trace", "html", path, "-o", path).code == 2
    assert path.read_bytes() == before


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the PATH to render the page")
def test_a_browser_shows_the_facts_of_a_token(run: Run, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.jsonl", HOSTILE)
    run("trace", "html", path)
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/t.html#r1t1"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    facts = shown[shown.index('<aside id="facts"') :]
    assert "base's choice kept" in facts
    assert "<title>broken" not in shown
