"""Looking into an answer while chatting, and the blend as it streams."""

from __future__ import annotations

import re
from types import SimpleNamespace

import click
import pytest

from blendin_cli.chat import inspect_commands
from blendin_cli.terminal.blend_view import MARKS

TAU = ("--tau", "0.99")


def said(result, beginning):
    return [line for line in result.err.splitlines() if line.startswith(beginning)]


def unmarked(text):
    return re.sub("[" + "".join(sum(MARKS.values(), ())) + "]", "", text)


def test_the_blend_has_the_same_text(run, tiny):
    plain = run("generate", *tiny, *TAU, "-m", 20, "hi")
    blend = run("generate", *tiny, *TAU, "-m", 20, "--show", "blend", "hi")
    marks = run("generate", *tiny, *TAU, "-m", 20, "--marks", "hi")
    assert unmarked(blend.text) == plain.text != blend.text == marks.text
    assert "interventions in 20 tokens" in blend.err
    assert "plain: one model alone" in blend.err
    assert (
        "plain: one model alone"
        not in run("generate", *tiny, "-q", "-m", 2, "--show", "blend", "hi").err
    )


def test_a_stop_string_is_not_shown_in_the_blend(run, tiny):
    plain = run("generate", *tiny, *TAU, "-m", 30, "-q", "hi").text
    stop = plain[8:10]
    cut = run("generate", *tiny, *TAU, "-m", 30, "-q", "--stop", stop, "hi").text
    blend = run("generate", *tiny, *TAU, "-m", 30, "-q", "--stop", stop, "--marks", "hi").text
    assert unmarked(blend) == cut
    assert len(cut) < len(plain)


def test_why_lists_tokens_and_shows_candidates(run, tiny):
    result = run(
        "chat", *tiny, *TAU, "-m", 4, stdin=b"hi\n/why\n/why 1\n/why 99\n/why 1" + b"0" * 5000
    )
    assert said(result, "0:'")
    assert said(result, "token 1: '")
    assert len(said(result, "5  ")) == 1  # five candidates in each column
    assert said(result, "'99' is not a token of the last answer; they go from 0 to 3")
    assert said(result, "'1000")
    assert run("chat", *tiny, stdin=b"/why 0\n").code == 2


def test_why_finds_a_text(run, tiny):
    text = run("generate", *tiny, "-q", "-m", 6, "hi").text
    result = run("chat", *tiny, "-m", 6, stdin=f"hi\n/why {text[3:5].strip()}\n".encode())
    assert said(result, "token ")


def test_a_number_that_is_no_token_is_looked_for_as_text(run, tiny, monkeypatch):
    pieces = [SimpleNamespace(text=text) for text in ("in ", "19", "84")]
    chat = SimpleNamespace(steps=pieces)
    assert inspect_commands._token_index(chat, "1984") == 1
    assert inspect_commands._token_index(chat, "2") == 2
    with pytest.raises(click.UsageError):
        inspect_commands._token_index(chat, "2001")


@pytest.mark.parametrize("change", ["/dial 0", "/set tau 0", "/set system Be odd", "/method base"])
def test_why_tells_what_held_when_it_was_answered(run, tiny, change):
    lines = b"hi\n/why 2\n%b\n/why 2\n" % change.encode()
    told = run("chat", *tiny, *TAU, "-m", 4, stdin=lines).err.splitlines()
    first, second = (n for n, line in enumerate(told) if line.startswith("token 2: "))
    assert told[first : first + 7] == told[second : second + 7]
    assert re.search(r"α 0\.\d\d: the blend (kept|overrode) the base's choice", told[first])


def test_why_tells_what_a_guide_that_was_not_asked_would_have_weighed(run, tiny):
    told = run("chat", *tiny, "--tau", 0.001, "-m", 4, stdin=b"hi\n/why 1\n")
    assert "the base was sure and decided; the guide would have had α 0." in told.err
    told = run("chat", *tiny, "--method", "base", "-m", 4, stdin=b"hi\n/why 1\n")
    assert ", the base decides alone\n" in told.err


def test_another_candidate_in_the_blend_keeps_what_was_decided_before(run, tiny):
    result = run("chat", *tiny, *TAU, "-qm", 6, "--marks", stdin=b"hi\n/alt 3 2\n")
    first, other = result.text.splitlines()
    marks = list(re.finditer("[‹«][^›»]*[›»]|.", first))
    before = "".join(m[0] for m in marks[:2])
    assert other.startswith(before)


def test_the_figures_of_another_candidate_are_those_of_the_line_above(run, tiny):
    lines = b"hi\n/alt 3 2\n/stats\n"
    told = run("chat", *tiny, *TAU, "-m", 6, "--marks", stdin=lines).err
    drawn = re.findall(r"^α .* (\d+) interventions? in (\d+) tokens", told, re.M)
    figures = re.findall(r"^(\d+) tokens(.*?) · .* · guide asked (\d+)×", told, re.M)
    assert drawn == [(asked, tokens) for tokens, _, asked in figures]
    assert [(tokens, kept) for tokens, kept, _ in figures] == [("6", ""), ("10", " (4 kept)")]
    assert "last answer: 10 tokens (4 kept), " in told
    assert f", {drawn[1][0]} interventions (" in told
    assert "2 answers, 12 tokens, " in told


def test_part_of_a_character_is_no_other_candidate(run, tiny, monkeypatch):
    assert inspect_commands._is_text("é".encode())
    assert not inspect_commands._is_text("é".encode()[:1])
    alone = run("chat", *tiny, "-qm", 4, stdin=b"hi\n").text
    monkeypatch.setattr(inspect_commands, "_is_text", lambda written: False)
    result = run("chat", *tiny, "-qm", 4, stdin=b"hi\n/alt 1 2\n")
    assert result.text == alone
    assert "part of a character" in result.err


def test_another_candidate_is_taken(run, tiny):
    first = run("chat", *tiny, *TAU, "-qm", 6, stdin=b"hi\n").text
    same = run("chat", *tiny, *TAU, "-qm", 6, stdin=b"hi\n/alt 2 1\n").text.splitlines()
    assert same[0] + "\n" == first
    other = run("chat", *tiny, *TAU, "-qm", 6, stdin=b"hi\n/alt 2 2\n").text.splitlines()
    assert other[1][:2] == other[0][:2]
    assert other[1] != other[0]
    assert run("chat", *tiny, "-qm", 2, stdin=b"hi\n/alt 0 9\n").code == 2
    assert run("chat", *tiny, "-qm", 2, stdin=b"hi\n/alt\n").code == 2


def test_the_dial_at_zero_is_the_base_alone(run, tiny):
    base = run("generate", *tiny, "-qm", 12, "--method", "base", "hi").text
    turned = run("chat", *tiny, *TAU, "-qm", 12, stdin=b"/dial 0\nhi\n").text
    assert turned == base
    back = run("chat", *tiny, *TAU, "-qm", 12, stdin=b"/dial 0\n/dial 1\nhi\n").text
    assert back == run("generate", *tiny, *TAU, "-qm", 12, "hi").text != base


def test_the_dial_tells_where_it_is(run, tiny):
    said = run("chat", *tiny, "-q", stdin=b"/dial\n/dial 0.3\n/dial\n").err
    assert said.splitlines() == [
        "the dial is at 1; it goes from 0 to 1",
        "the dial is at 0.3; it goes from 0 to 1",
    ]


@pytest.mark.parametrize(
    "line", ["/dial 2", "/dial x", "/method nope", "/show nope", "/method proxy-tuning"]
)
def test_dial_refuses_bad_values(run, tiny, line):
    result = run("chat", *tiny, "-m", 3, stdin=f"{line}\nhi\n".encode())
    assert result.code == 2
    assert said(result, "3 tokens")  # and the conversation goes on


def test_another_method_keeps_shared_options(run, tiny):
    lines = b"/set tau 0.3\n/set lambda 0.2\n/method nudging\n/set\n"
    told = run("chat", *tiny, "-q", stdin=lines).err
    assert "the method is nudging, without lambda, set for blendin" in told
    assert re.search(r"^tau +0\.3 \(set in this chat\)$", told, re.M)
    assert re.search(r"^lambda +not used by nudging", told, re.M)


def test_the_method_changes_from_now_on(run, tiny):
    expected = run("generate", *tiny, "-qm", 12, "--method", "aligned", "hi").text
    assert run("chat", *tiny, "-qm", 12, stdin=b"/method aligned\nhi\n").text == expected


def test_the_blend_can_be_shown_from_now_on(run, tiny):
    result = run("chat", *tiny, *TAU, "-m", 8, stdin=b"/show blend\nhi\n")
    assert "interventions in 8 tokens" in result.err
