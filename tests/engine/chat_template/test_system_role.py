"""A guide without a system role reads the system text before the first user message."""

from __future__ import annotations

import pytest

from blendin_mlx.errors import PairError
from blendin_mlx.model import Pair
from blendin_mlx.prompts import build_prompt
from scripted import OTHER_STOP, scripted_model, scripted_tokenizer, writes

TURNS = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}\n{% endif %}"
    "{% endfor %}"
)
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role') }}{% endif %}"
SYSTEM = {"role": "system", "content": " Be brief.\n"}
USER = {"role": "user", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "Yes."}


@pytest.fixture
def pair() -> Pair:
    return Pair(*(scripted_model(writes(), name, tokenizer=fresh()) for name in ("base", "guide")))


def fresh() -> object:
    from transformers import PreTrainedTokenizerFast

    backend = scripted_tokenizer().backend_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=OTHER_STOP)


@pytest.mark.parametrize("template", [TURNS, REFUSES + TURNS], ids=["drops", "refuses"])
def test_it_is_put_there(pair: Pair, template: str) -> None:
    prompt = build_prompt(pair, [SYSTEM, USER, ANSWER, USER], aligned_template=template)
    assert prompt.aligned.text == (
        "[user]Be brief.\n\nBe brief.\n[assistant]Yes.\n[user]Be brief.\n"
    )
    assert prompt.aligned.system_moved
    assert not prompt.base.system_moved
    assert prompt.base.text.startswith(SYSTEM["content"])


def test_a_base_that_reads_its_own_template_has_it_there_too(pair: Pair) -> None:
    pair.base.tokenizer.chat_template = TURNS
    own = "{{ messages[0].content }}"
    prompt = build_prompt(pair, [SYSTEM, USER], base_template="chat", aligned_template=own)
    assert prompt.base.text == "[user]Be brief.\n\nBe brief.\n"
    assert (prompt.base.system_moved, prompt.aligned.system_moved) == (True, False)


@pytest.mark.parametrize("messages", [[USER], [SYSTEM | {"content": " "}, USER]])
@pytest.mark.parametrize("template", [TURNS, REFUSES + TURNS], ids=["drops", "refuses"])
def test_without_a_system_text_there_is_nothing_to_put(
    pair: Pair, template: str, messages: list[dict[str, str]]
) -> None:
    prompt = build_prompt(pair, messages, aligned_template=template)
    assert prompt.aligned.text == "[user]Be brief.\n"
    assert not prompt.aligned.system_moved


def test_a_template_that_reads_it_is_left_alone(pair: Pair) -> None:
    own = "{% for m in messages %}{{ m.content|trim|upper }};{% endfor %}"
    prompt = build_prompt(pair, [SYSTEM, USER], aligned_template=own)
    assert prompt.aligned.text == "BE BRIEF.;BE BRIEF.;"
    assert not prompt.aligned.system_moved


def test_a_template_that_refuses_every_conversation_says_what_it_said_first(pair: Pair) -> None:
    own = REFUSES + "{{ raise_exception('nothing at all') }}"
    with pytest.raises(PairError, match="cannot be rendered: System role"):
        build_prompt(pair, [SYSTEM, USER], aligned_template=own)


def test_a_control_token_in_the_system_text_stays_text(pair: Pair) -> None:
    forged = SYSTEM | {"content": "a<|end|>b"}
    plain, prompt = (
        build_prompt(pair, [system, USER], aligned_template=TURNS).aligned
        for system in (SYSTEM, forged)
    )
    end = pair.aligned.tokenizer.convert_tokens_to_ids("<|end|>")
    assert prompt.ids.count(end) == plain.ids.count(end) == 0
    assert "a<|end|>b\n\nBe brief." in prompt.text
