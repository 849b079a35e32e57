"""The page of the server in a real browser: it chats, shows who decided, and asks nobody else."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from importlib.resources import files

import pytest

from blendin_cli.serve.guard import Guard
from browser import BROWSER, NEEDED, browser
from scripted_server import Script, scripted_server, words

PAGE = (files("blendin_cli.serve") / "page.html").read_text()
ANSWERED = "document.querySelectorAll('.figures').length === {}"
with_browser = pytest.mark.skipif(BROWSER is None, reason=NEEDED)


def test_the_page_is_one_file_that_fetches_nothing_from_elsewhere(pair_server):
    reply = pair_server.address.ask("GET", "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.body.decode() == PAGE
    assert not re.search(r"https?:|src=|@import|url\(", PAGE.replace("script-src", ""))
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]


@pytest.fixture
def page(pair_server, tmp_path):
    """The page, open; answers are short."""
    with browser(tmp_path / "profile") as opened:
        opened.open(pair_server.address.url)
        opened.until("document.getElementById('method').length > 3")
        yield opened


def ask(page, text, answers=1):
    page.type(text)
    page.press("Enter", 13)
    page.until(ANSWERED.format(answers))


def facts(page):
    return str(page.value("document.getElementById('facts').innerText"))


@with_browser
def test_a_chat_by_keyboard_alone(page):
    ask(page, "<b>hi</b>")
    assert page.value("document.querySelector('.turn .text').textContent") == "<b>hi</b>"
    assert page.value("document.querySelectorAll('.kept, .override').length") > 2
    assert page.value("document.querySelectorAll('.t[class*=level]').length") > 0
    ask(page, "and?", answers=2)
    assert page.value("messages.length") == 4
    page.value("document.querySelectorAll('.text')[1].firstElementChild.focus()")
    assert "decided by" in facts(page)
    before = facts(page)
    page.press("ArrowRight", 39)
    assert facts(page) != before
    page.value("document.querySelector('.text > .override, .text > .kept').focus()")
    for word in ("α", "base's choice", "guide's choice", "blend's choice", "probability"):
        assert word in facts(page)


@with_browser
def test_method_and_dial_reach_the_models(page, pair_server):
    page.value("const m = document.getElementById('method'); m.value = m.options[1].value")
    ask(page, "hi")  # the base alone
    assert page.value("document.querySelectorAll('.text > .kept, .text > .override').length") == 0
    assert "base" in page.value("document.querySelector('.figures').textContent")
    alone = page.value("document.querySelectorAll('.text')[1].textContent")
    page.value("document.getElementById('fresh').click(); m.selectedIndex = 0")
    page.value("const d = document.getElementById('dial'); d.value = 0")
    page.value("d.dispatchEvent(new Event('input'))")
    assert page.value("document.getElementById('dialled').textContent") == "0.00"
    ask(page, "hi")
    assert page.value("document.querySelectorAll('.text')[1].textContent") == alone


NOBODY = {"base": [], "aligned": [], "blend": []}
DECISION = {
    "id": 1,
    "alpha": None,
    "prob": 1.0,
    "source": "base",
    "gate_margin": None,
    "base": {"id": 1, "text": "a", "prob": 1.0},
    "candidates": NOBODY,
    "stop_check": False,
}


def detailed(*texts):
    """An answer with everything that the page shows of a token."""
    return [
        replace(part, decisions=tuple({**DECISION, "index": n, "text": part.text} for _ in "1"))
        for n, part in enumerate(words(*texts))
    ]


@with_browser
def test_escape_stops_an_answer_and_a_new_chat_begins(tmp_path):
    rest = 200  # parts, written one by one until the server notices that nobody reads them
    script = Script(detailed("a", "b", *"c" * rest), threading.Semaphore(1))
    with scripted_server(script) as server, browser(tmp_path / "profile") as page:
        page.open(server.address.url)
        page.until("document.getElementById('method').length > 3")
        page.type("hi")
        page.press("Enter", 13)
        page.until("document.querySelectorAll('.text > .t').length === 2")
        page.press("Escape", 27)
        page.until("running === null")
        assert page.value("messages.at(-1).content") == "ab"  # half an answer is one too
        for _ in range(rest):
            script.gate.release()
            if script.stopped.wait(0.1):
                break
        assert script.stopped.is_set()
        page.value("document.getElementById('fresh').click()")
        assert page.value("document.querySelectorAll('.turn').length + messages.length") == 0


@with_browser
def test_errors_are_told_and_the_question_is_kept(tmp_path):
    with (
        scripted_server(Script([RuntimeError("<b>broken</b>")])) as server,
        browser(tmp_path / "profile") as page,
    ):
        page.open(server.address.url)
        page.until("document.getElementById('method').length > 3")
        page.type("hi")
        page.press("Enter", 13)
        page.until("document.getElementById('alert').textContent.includes('<b>broken</b>')")
        page.until("running === null")
        assert page.value("document.getElementById('question').value") == "hi"
        assert page.value("messages.length") == 0


@with_browser
def test_a_key_is_asked_for_where_there_is_one(tmp_path):
    with (
        scripted_server(guard=Guard("sesame")) as server,
        browser(tmp_path / "profile") as page,
    ):
        page.open(server.address.url)
        page.until("document.getElementById('locked').offsetParent !== null")
        page.value("document.getElementById('key').value = 'sesame'; loadModels()")
        page.until("document.getElementById('method').length > 3")
        assert page.value("document.getElementById('alert').textContent") == ""


@with_browser
@pytest.mark.parametrize("width", [320, 800])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_and_is_legible(pair_server, tmp_path, width, dark):
    with browser(tmp_path / "profile") as page:
        page.open(pair_server.address.url, dark, width)
        page.until("document.getElementById('method').length > 3")
        ask(page, "hi")
        page.value("document.querySelectorAll('.text')[1].firstElementChild.focus()")
        below = "document.activeElement.getBoundingClientRect().bottom"
        assert page.value(f"{below} <= document.getElementById('facts').offsetTop + 1")
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.getElementById('locked').offsetParent") is None
        assert page.value("document.getElementById('send').getBoundingClientRect().bottom") <= 600
        for shown in (".text > .kept, .text > .override", ".hint", "label", "dt", "dd", "button"):
            assert page.contrast(shown) >= 4.5, shown
