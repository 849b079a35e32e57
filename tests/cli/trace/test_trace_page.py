"""The page of a trace stands alone, and nothing in a trace becomes markup or script."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from browser import BROWSER, NEEDED, Page, browser
from commands import Result
from recorded_traces import HOSTILE, ranked, step, write_trace

Run = Callable[..., Result]


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


with_browser = pytest.mark.skipif(BROWSER is None, reason=NEEDED)


@with_browser
def test_keys_and_mouse_show_the_facts_of_a_token(run: Run, tmp_path: Path) -> None:
    run("trace", "html", write_trace(tmp_path / "t.jsonl", HOSTILE))
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "t.html")
        assert page.value("document.getElementById('facts').hidden")
        page.press("Tab", 9)
        assert "base alone" in facts(page)
        page.press("ArrowRight", 39)
        assert "base's choice kept" in facts(page)
        page.press("End", 35)
        assert "base overridden" in facts(page)
        page.press("ArrowRight", 39)
        assert "base overridden" in facts(page)
        page.press("Home", 36)
        assert "base alone" in facts(page)
        page.hover("#r1t2")
        assert "base overridden" in facts(page)
        assert page.value("document.title") != "broken"


@with_browser
def test_a_link_to_a_token_leads_there(run: Run, tmp_path: Path) -> None:
    run("trace", "html", write_trace(tmp_path / "t.jsonl"))
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "t.html")
        page.value("document.querySelector('td a').click()")
        assert page.value("document.activeElement.id") == "r1t2"
        assert "base overridden" in facts(page)


@with_browser
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_light_and_dark(run: Run, tmp_path: Path, dark: bool) -> None:
    run("trace", "html", write_trace(tmp_path / "t.jsonl"))
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "t.html", dark)
        for shown in ("#r1t0", "#r1t1", "#r1t2", ".soft", "td"):
            assert page.contrast(shown) >= 4.5, shown


def facts(page: Page) -> str:
    return str(page.value("document.getElementById('facts').innerText"))


@with_browser
@pytest.mark.parametrize("width", [320, 600])
def test_a_narrow_page_does_not_scroll_sideways(run: Run, tmp_path: Path, width: int) -> None:
    run("trace", "html", write_trace(tmp_path / "t.jsonl"))
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "t.html", width=width)
        assert page.value("document.documentElement.scrollWidth") <= width


def test_the_facts_of_a_token_name_the_top_candidates(run: Run, tmp_path: Path) -> None:
    lists = {
        "base": ranked((" so", 0.5), (" be", 0.25)),
        "aligned": ranked((" or", 0.75)),
        "blend": [],
    }
    more = [{**step(3, " so", 0, 0, None), "candidates": lists}]
    run("trace", "html", write_trace(tmp_path / "t.jsonl", more=more))
    page = html.unescape((tmp_path / "t.html").read_text())
    assert r"""["base's choice", "' so'  0.500\n' be'  0.250"]""" in page
    assert r"""["guide's choice", "' or'  0.750"]""" in page
    assert page.count("blend's choice") == 0
    assert run("trace", "view", tmp_path / "t.jsonl").code == 0
    more[0]["candidates"] = {"base": [{"id": "no"}]}
    broken = run("trace", "html", write_trace(tmp_path / "t.jsonl", more=more))
    assert "t.jsonl:5 is not a step" in broken.err
