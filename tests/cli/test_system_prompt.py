"""A system prompt never ends a chat: a guide without a system role reads it elsewhere."""

from __future__ import annotations

import pytest

MOVED = "aligned has no system role: the system prompt is put before the first message\n"
TURNS = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}\n{% endif %}{% endfor %}"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"


@pytest.fixture(params=[TURNS, REFUSES + TURNS], ids=["drops", "refuses"])
def models(request, tiny, tmp_path):
    """A pair whose guide has no system role."""
    template = tmp_path / "template.jinja"
    template.write_text(request.param)
    return (*tiny, "-m", "4", "--aligned-template", str(template))


def test_a_chat_says_once_where_it_goes(run, models):
    result = run("chat", *models, stdin=b"/system Be brief.\nfirst\nsecond\n")
    assert result.code == 0
    assert len(result.text.splitlines()) == 2
    assert result.err.count(MOVED) == 1


def test_no_remark_without_a_system_prompt_or_with_quiet(run, models):
    assert MOVED not in run("chat", *models, stdin=b"first\n").err
    assert run("chat", *models, "-q", stdin=b"/system Be brief.\nfirst\n").err == ""


def test_generate_remarks_on_a_moved_system_prompt(run, models):
    result = run("generate", *models, "--system", "Be brief.", "hi")
    assert (result.code, result.err.count(MOVED)) == (0, 1)


def test_a_system_prompt_that_is_too_long_does_not_end_a_piped_chat(run, tiny):
    lines = f"/system {'long ' * 5000}\nfirst\n/set system\nsecond\n"
    result = run("chat", *tiny, "-q", "-m", 4, stdin=lines.encode())
    assert len(result.text.splitlines()) == 1
    (line,) = result.err.splitlines()
    assert "4096" in line
    assert result.code == 2


def test_a_template_that_refuses_a_message_does_not_end_a_piped_chat(run, tiny, tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% if 'b' in messages[-1].content %}{{ raise_exception('no b') }}{% endif %}a"
    )
    lines = b"b\nhello\n"
    result = run("chat", *tiny, "-q", "-m", 4, "--aligned-template", template, stdin=lines)
    assert len(result.text.splitlines()) == 1
    assert result.err == "aligned: its chat template cannot be rendered: no b\n"
    assert result.code == 4
