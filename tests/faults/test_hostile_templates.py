"""Templates that loop or fill the memory are broken off, and the message says whose they are.

Nothing here is timed: a test that ends has shown that the limits hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from blendin_mlx.base_templates import BaseTemplate
from blendin_mlx.chat_template import render
from blendin_mlx.errors import PairError
from blendin_mlx.limited_process import LimitedProcess, ProcessDiedError, ProcessLimitError
from blendin_mlx.prompts import build_prompt
from blendin_models import load_pair
from tiny_folders import write_model

LOOP = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
DOUBLING = (
    "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}"
)
HUGE = "{% set a = 'a' * 99999999 %}"
NESTED = (
    "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(64) %}"
    "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}"
)
# Each of these would run for minutes, or for ever, in a single step of C.
ENDLESS = {
    "loop": LOOP,
    "power": "{% set a = 9 %}{{ (a**90000000) % 7 }}",
    "product": "{% set n = namespace(a=9**300) %}{% for i in range(99) %}{% set n.a = n.a * n.a %}"
    "{% endfor %}",
    "nested lists compared": NESTED + "{{ n.a == n.b }}",
    "nested lists counted": NESTED + "{{ [n.a].count(n.b) }}",
    "nested tuples": "{% set n = namespace(a=(1,)) %}{% for i in range(64) %}"
    "{% set n.a = (n.a, n.a) %}{% endfor %}{{ {n.a: 1} }}",
    "search in bytes": "{% set a = ('a' * 9999999).encode() %}"
    "{{ a.rfind(('ab' + 'a' * 4999999).encode()) }}",
    "slice": "{{ [1]|slice(999999999)|list|length }}",
    "strip": "{% set a = 'a' * 9999999 %}{{ a.strip('b' * 9999999 + 'a') }}",
    "power in a number filter": "{{ (9**90000000)|int % 7 }}{{ (9**90000000)|abs % 7 }}",
}
# Each of these would fill the memory in a single step.
HEAVY = {
    "product of text": "{{ 'x' * 3000000000 }}",
    "doubling": DOUBLING,
    "shared": "{% set s %}{{ 'x' * 9999999 }}{% endset %}{{ ([s] * 100)|string }}",
    "percent": "{{ '%999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "percent of bytes": "{{ '%999999999d'.encode() % 1 }}",
    "format": "{{ '{:999999999d}'.format(1) }}",
    "format of an argument": "{{ '{:{}d}'.format(1, 999999999) }}",
    "ljust": "{{ 'x'.ljust(999999999) }}",
    "zfill": "{{ 'x'.zfill(999999999) }}",
    "expandtabs": "{{ ('\t' * 9999).expandtabs(999999) }}",
    "center": "{{ 'x'|center(999999999) }}",
    "indent": "{{ 'x\ny'|indent(999999999) }}",
    "batch": "{{ [1]|batch(999999999, 'x')|list|length }}",
    "replace": "{{ ('x' * 9999).replace('x', 'y' * 99999)|length }}",
    "join": "{{ (['x'] * 99999)|join('y' * 99999)|length }}",
}
# These end by themselves or do not, as the machine has it; nothing else may happen.
EITHER = {
    "remainder": "{{ 0x" + "f" * 90_000 + " % 0x" + "e" * 45_000 + " }}",
    "sum of lists": "{% set a = [[1]] * 90000 %}{{ a|sum(start=[])|length }}",
    "nested views": "{% set n = namespace(a={'x': 1}) %}{% for i in range(64) %}"
    "{% set n.a = {'x': n.a.values(), 'y': n.a.values()} %}{% endfor %}{{ n.a|tojson }}",
    "nested loops": "".join(f"{{% for a{i + 1} in [[a{i}, a{i}]] %}}" for i in range(18))
    + "{{ a18|string|length }}"
    + "{% endfor %}" * 18,
    "urlize": HUGE + "{{ ('http://' + a)|urlize|length }}",
    "digits": "{{ ('9' * 4000)|int ** 20 }}{{ '9' * 99999|float }}",
    "count": HUGE + "{{ a.count('aa') }}{{ a.encode().count('aa'.encode()) }}",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base, aligned = (str(write_model(folder / name, n)) for n, name in enumerate(("b", "aligned")))
    return load_pair(base=base, aligned=aligned)


@pytest.fixture
def little_time(monkeypatch):
    """Little processor time for each template, and many times what an ordinary one takes."""
    monkeypatch.setattr(render, "LIMITS", replace(render.LIMITS, cpu_s=0.2))


def assert_works(pair):
    assert build_prompt(pair, "hi").aligned.ids


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_never_ends_is_killed(pair, name):
    process = render._process()
    build_prompt(pair, "hi")
    before = process.pid
    with pytest.raises(PairError, match=r"aligned: its chat .* it takes more than 0\.2 s"):
        build_prompt(pair, "hi", aligned_template=ENDLESS[name])
    assert process.pid is None
    assert_works(pair)
    assert process.pid not in (None, before)


@pytest.mark.parametrize("name", HEAVY)
def test_a_template_that_would_fill_the_memory_is_refused(pair, name):
    # Where the system has no limit for memory, a text that fits is too long to be passed on.
    reason = r"aligned: its chat .* (takes too much memory|takes more than 5 s|writes more than)"
    with pytest.raises(PairError, match=reason):
        build_prompt(pair, "hi", aligned_template=HEAVY[name])
    assert_works(pair)


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("name", EITHER)
def test_a_template_that_ends_late_does_so_within_the_limits(pair, name):
    with suppress(PairError):
        build_prompt(pair, "hi", aligned_template=EITHER[name])
    assert_works(pair)


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize(("source", "reason"), [(LOOP, "more"), (DOUBLING, "memory|more")])
def test_a_base_template_has_the_same_limits(pair, source, reason):
    with pytest.raises(PairError, match=f"the base template cannot be rendered: .*({reason})"):
        build_prompt(pair, "hi", base_template=BaseTemplate(source))
    assert_works(pair)


def test_a_template_that_writes_too_much_is_refused(pair, monkeypatch):
    monkeypatch.setattr(render, "LIMITS", replace(render.LIMITS, characters=1000))
    with pytest.raises(PairError, match="it writes more than 1000 characters"):
        build_prompt(pair, "hi", aligned_template="{{ 'x' * 1001 }}")
    assert build_prompt(pair, "hi", aligned_template="{{ 'x' * 1000 }}").aligned.ids


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 7 * 6 }} {{ 2 ** 10 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 7 / 2 }}", "42 1024 3 3 3.5"),
        ("{{ 'ab' * 3 }}{{ '%s-%05.1f|%3d' % ('x', 1.25, 7) }}", "abababx-001.2|  7"),
        ("{{ '{:>4}{}'.format('a', 'b') }} {{ '%s=%d'|format('n', 4) }}", "   ab n=4"),
        ("{{ ' x '.strip() }}{{ 'a.b.c'.rsplit('.', 1)|join(',') }}", "xa.b,c"),
        ("{{ 'ab'|center(6) }}{{ 'a\nb'|indent(2) }}{{ 'x'.ljust(3) }}|", "  ab  a\n  bx  |"),
        ("{% for m in messages|selectattr('role', 'equalto', 'user') %}{{ m.content }}", "hi"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}", ""),
        ("{{ messages|tojson }}", '[{"role": "user", "content": "hi"}]'),
        ("{{ 'é<'|tojson }}{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}", None),
        ("{% with a = messages[0] %}{{ a.content }}{{ [1, 2, 3]|sum }}{% endwith %}", "hi6"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}{{ m(x='b') }}", "<a><b>"),
        ("{% generation %}a{% endgeneration %}{{ strftime_now('%%') }}", "a%"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}", "012"),
        ("{{ (messages|map(attribute='role')|list)[0] }}{{ range(3)|list }}", "user[0, 1, 2]"),
        ("{{ dict(a=1).a }}{{ dict.fromkeys('ab', 1) }}{{ namespace(a=1, self=2).self }}", None),
        ("  {% if tools is none and documents is none %}\n  a{% endif %}\n\n", "  a"),
        ("{{ bos_token }}{{ eos_token }}{{ pad_token }}|{{ add_generation_prompt }}", None),
    ],
)
def test_a_normal_template_writes_what_it_always_did(pair, template, text):
    if "{% for" in template:
        template += "{% endfor %}"
    tokenizer = pair.aligned.tokenizer
    messages = [{"role": "user", "content": "hi"}]
    plain = tokenizer.apply_chat_template(
        messages, tokenize=False, chat_template=template, add_generation_prompt=True
    )
    assert build_prompt(pair, "hi", aligned_template=template).aligned.text == plain
    assert text is None or text == plain


@pytest.mark.parametrize(
    "template",
    [
        "{{ '{}'.format() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
        "{{ raise_exception('no') }}",
        "{{ raise_exception(['no'] * 99) }}",
        "{% set n = namespace(_x=1) %}",
        r"{{ '\ud800' }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__ }}{{ namespace.__init__.__globals__ }}",
    ],
)
def test_a_template_that_fails_is_one_line(pair, template):
    with pytest.raises(PairError, match="its chat template cannot be rendered: ") as raised:
        build_prompt(pair, "hi", aligned_template=template)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert_works(pair)


def test_a_template_that_fails_leaves_the_process_as_it_was(pair):
    build_prompt(pair, "hi")
    before = render._process().pid
    with pytest.raises(PairError):
        build_prompt(pair, "hi", aligned_template="{{ raise_exception('no') }}")
    assert_works(pair)
    assert render._process().pid == before


def test_a_long_conversation_is_rendered(pair):
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": "word " * 50} for n in range(1001)
    ]
    assert len(build_prompt(pair, messages).aligned.text) > 250_000


@pytest.mark.usefixtures("little_time")
def test_looking_for_the_end_of_a_turn_is_bounded_too(tmp_path):
    folder = str(write_model(tmp_path / "m", 1))
    pair = load_pair(base=folder, aligned=folder)
    pair.aligned.tokenizer.chat_template = LOOP
    assert pair.aligned.stop_ids


LIMITS = {"wall_s": 600.0, "memory": 1 << 30, "reply_bytes": 1 << 30}
ECHO = "for line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.flush()"
GROW = "a = [b'x' * (1 << 20) for _ in range(99)]; sys.stdin.read(); sys.stdin.read()"


@pytest.fixture
def python(tmp_path):
    """``python(code)``: a limited process without limits of its own."""
    made = []

    def start(code):
        made.append(LimitedProcess([sys.executable, "-I", "-c", f"import sys; {code}"], tmp_path))
        return made[-1]

    yield start
    for process in made:
        process.stop()


def test_a_child_answers_lines_longer_than_a_pipe_holds(python):
    process = python("\n" + ECHO)
    line = b"x" * 3_000_000 + b"\n"
    assert process.ask(line, **LIMITS) == line
    before = process.pid
    assert process.ask(b"y\n", **LIMITS) == b"y\n"
    assert process.pid == before


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        (f"sys.stdin.readline(); {GROW}", {"memory": 50 << 20}, "it takes too much memory"),
        ("sys.stdin.read()", {"wall_s": 0.1}, "it takes more than 0.1 s"),
        ("sys.stdin.readline(); print('x' * 9999)", {"reply_bytes": 99}, "it writes too much"),
    ],
)
def test_a_child_is_killed_where_the_system_has_no_limits(python, code, limits, reason):
    process = python(code)
    with pytest.raises(ProcessLimitError, match=reason):
        process.ask(b"x\n", **{**LIMITS, **limits})
    assert process.pid is None


def test_a_child_that_ends_is_replaced(python):
    process = python("sys.stdin.readline(); sys.exit(7)")
    for _ in range(2):
        with pytest.raises(ProcessDiedError) as raised:
            process.ask(b"x" * 3_000_000 + b"\n", **LIMITS)
        assert raised.value.code == 7


def test_a_child_that_was_killed_between_two_questions_is_replaced(python):
    process = python("\n" + ECHO)
    process.ask(b"x\n", **LIMITS)
    process._child.kill()
    process._child.wait()
    assert process.ask(b"x\n", **LIMITS) == b"x\n"


def test_the_renderer_ends_with_its_standard_input():
    process = render._process()
    ended = subprocess.run(process._command, input=b"", capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_the_renderer_sees_nothing_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "secret")
    show = "import os, json; input(); print(json.dumps(dict(os.environ)))"
    process = LimitedProcess([sys.executable, "-c", show], tmp_path)
    assert "HF_TOKEN" not in json.loads(process.ask(b"x\n", **LIMITS))
    process.stop()
