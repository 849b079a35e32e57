"""Chat templates that loop or fill the memory are broken off, and the message names the model."""

from __future__ import annotations

import resource
import sys
import time

import pytest

from blendin_mlx import rendering
from blendin_mlx.errors import PairError
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
# Written out it would fill the memory, though no name is ever given to much.
SHARED = "{{ ([s] * 100)|string }}"
TOO_MUCH = "it makes more than any conversation needs"
# Each of these would run for minutes, or for ever, in a single step of C.
STEPS = {
    "power": "{% set a = 9 %}{{ (a**90000000) % 7 }}",
    "power of literals": "{{ (9**90000000) % 7 }}",
    "power in a filter": "{{ [9, 90000000]|map('string')|join('**') }}{{ (9**90000000)|string }}",
    "product": "{% set n = namespace(a=9**300) %}{% for i in range(99) %}{% set n.a = n.a * n.a %}"
    "{% endfor %}",
    "remainder": "{{ 0x" + "f" * 90_000 + " % 0x" + "e" * 45_000 + " }}",
    "nested lists": "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(64) %}"
    "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
    "nested tuples": "{% set n = namespace(a=(1,)) %}{% for i in range(64) %}"
    "{% set n.a = (n.a, n.a) %}{% endfor %}{{ {n.a: 1} }}",
    "nested views": "{% set n = namespace(a={'x': 1}) %}{% for i in range(64) %}"
    "{% set n.a = {'x': n.a.values(), 'y': n.a.values()} %}{% endfor %}{{ n.a|tojson }}",
    "nested namespaces": "{% macro m(a, i) %}{{ a == 1 if i == 0 else m([a, a], i - 1) }}"
    "{% endmacro %}{{ m([1], 64) }}",
    "nested loops": "".join(f"{{% for a{i + 1} in [[a{i}, a{i}]] %}}" for i in range(18))
    + "{{ a18|string }}"
    + "{% endfor %}" * 18,
    "search from the right": "{% set a = 'a' * 9999999 %}{{ a.rfind('ab' + 'a' * 4999999) }}",
    "strip": "{% set a = 'a' * 9999999 %}{{ a.strip('b' * 9999999 + 'a') }}",
    "sum of lists": "{% set a = [[1]] * 90000 %}{{ a|sum(start=[])|length }}",
    "percent": "{{ '%999999999d' % 1 }}",
    "percent of literals": "{{ '%.999999999f'|format(1.5) }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
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


@pytest.fixture
def pair(tmp_path):
    base, aligned = (
        str(write_model(tmp_path / name, n)) for n, name in enumerate(("base", "aligned"))
    )
    return load_pair(base=base, aligned=aligned)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LOOP, "it takes more than 2 s"),
        ("{{ 'x' * 3000000000 }}", TOO_MUCH),
        (DOUBLING, TOO_MUCH),
        ("{% set s %}{{ 'x' * 9999999 }}{% endset %}" + SHARED, "it takes too much memory"),
        ("{{ 'x' * 3000 }}", "it writes 3000 characters"),
    ],
)
def test_it_is_broken_off(pair, monkeypatch, template, reason):
    monkeypatch.setattr(rendering, "LONGEST_S", 2)
    monkeypatch.setattr(rendering, "MOST_CHARACTERS", 1000)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(PairError, match=reason) as raised:
        build_prompt(pair, "hi", aligned_template=template)
    assert "aligned" in str(raised.value)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert build_prompt(pair, "hi").aligned.ids  # and everything goes on


@pytest.mark.parametrize("step", STEPS)
def test_no_single_step_takes_long(pair, step):
    began = time.monotonic()
    with pytest.raises(PairError, match=f"{TOO_MUCH}|takes too|Exceeds the limit|more than 5 s"):
        build_prompt(pair, "hi", aligned_template=STEPS[step])
    assert time.monotonic() - began < 8  # where nothing bounds it, it never ends
    assert build_prompt(pair, "hi").aligned.ids


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
        ("{% with a = messages[0] %}{{ a.content }}{{ [1, 2, 3]|sum }}{% endwith %}", "hi6"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}{{ m(x='b') }}", "<a><b>"),
        ("{% generation %}a{% endgeneration %}{{ strftime_now('%%') }}", "a%"),
        ("{{ (messages|map(attribute='role')|list)[0] }}{{ range(3)|list }}", "user[0, 1, 2]"),
    ],
)
def test_a_normal_template_writes_what_it_always_did(pair, template, text):
    if "{% for" in template:
        template += "{% endfor %}"
    text = text.replace("\\n", "\n")
    assert build_prompt(pair, "hi", aligned_template=template).aligned.text == text
    tokenizer = pair.aligned.tokenizer
    messages = [{"role": "user", "content": "hi"}]
    plain = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=template)
    assert plain == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ '{}'.format() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    ],
)
def test_a_template_that_fails_is_one_line(pair, template):
    with pytest.raises(PairError, match="its chat template cannot be rendered: "):
        build_prompt(pair, "hi", aligned_template=template)


def test_a_long_conversation_is_rendered_in_good_time(pair):
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": "word " * 50} for n in range(1001)
    ]
    began = time.monotonic()
    assert len(build_prompt(pair, messages).aligned.text) > 250_000
    assert time.monotonic() - began < 4


def test_a_tracer_that_was_there_is_there_again(pair):
    def tracer(*_):
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        build_prompt(pair, "hi")
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_looking_for_the_end_of_a_turn_is_bounded_too(pair, monkeypatch):
    monkeypatch.setattr(rendering, "LONGEST_S", 0.2)
    pair.aligned.tokenizer.chat_template = LOOP
    assert pair.aligned.stop_ids
