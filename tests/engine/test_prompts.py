"""What each model reads: golden texts, no forged turns, one beginning, clear refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendin_mlx.base_templates import BASE_TEMPLATES, INTRO, SHOWN, BaseTemplate
from blendin_mlx.decoding.stop_strings import StopStrings
from blendin_mlx.errors import PairError, PromptError
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompts import Message, build_prompt, check_messages
from texts import PUBLISHED, TEXTS
from tiny import load_tokenizer, sentencepiece_tokenizer, size_of

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TURNS: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Why?\nTell me."},
]
FENCED = "".join(
    f"# Query:\n~~~\n{query}\n~~~\n\n# Answer:\n~~~\n{answer}\n~~~\n\n" for query, answer in SHOWN
)
GOLDEN = {
    "examples": f"Be brief.\n\n{FENCED}# Query:\n~~~\nHi.\n~~~\n\n# Answer:\n~~~\nHello!\n~~~\n\n"
    "# Query:\n~~~\nWhy?\nTell me.\n~~~\n\n# Answer:\n~~~\n",
    "query": "Be brief.\n\n# Query:\nHi.\n\n# Answer:\nHello!\n\n# Query:\nWhy?\nTell me.\n\n"
    "# Answer:\n",
    "transcript": "Be brief.\n\nUser: Hi.\nAssistant: Hello!\nUser: Why?\nTell me.\nAssistant:\n",
    "plain": "Be brief.\nQuestion: Hi.\nAnswer: Hello!\nQuestion: Why?\nTell me.\n",
}
ALONE = {
    "examples": f"{INTRO}\n\n{FENCED}# Query:\n~~~\nHi.\n~~~\n\n# Answer:\n~~~\n",
    "query": f"{INTRO}\n\n# Query:\nHi.\n\n# Answer:\n",
    "transcript": "User: Hi.\nAssistant:\n",
    "plain": "Question: Hi.\n",
}


class Flat:
    """A network that is asked for nothing but its width."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, ids: Any) -> Any:
        from blendin_mlx.backend.mlx import mx

        return mx.zeros((*ids.shape, self.size))


def language_model(tokenizer: Any, name: str) -> LanguageModel:
    return LanguageModel(Flat(size_of(tokenizer)), tokenizer, name=name)


def small(name: str, template: str | None = CHAT) -> LanguageModel:
    tokenizer = sentencepiece_tokenizer("prepend")
    tokenizer.chat_template = template
    return language_model(tokenizer, name)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(base=small("a base", None), aligned=small("a guide"))


@pytest.fixture(scope="module")
def published(published_tokenizer: Callable[[str], Path]) -> dict[str, Pair]:
    """Each published tokenizer on both sides."""
    models = {n: language_model(load_tokenizer(published_tokenizer(n)), n) for n in PUBLISHED}
    return {name: Pair(base=model, aligned=model) for name, model in models.items()}


def special_ids(model: LanguageModel, ids: Sequence[int]) -> list[int]:
    added = model.tokenizer.backend_tokenizer.get_added_tokens_decoder()
    return [token for token in ids if token in added and added[token].special]


@pytest.mark.parametrize("name", BASE_TEMPLATES)
def test_the_text_of_a_conversation_is_the_golden_one(pair: Pair, name: str) -> None:
    assert build_prompt(pair, TURNS, base_template=name).base.text == GOLDEN[name]


@pytest.mark.parametrize("name", BASE_TEMPLATES)
def test_the_text_of_a_single_question_is_the_golden_one(pair: Pair, name: str) -> None:
    assert build_prompt(pair, "Hi.", base_template=name).base.text == ALONE[name]


@pytest.mark.parametrize("name", BASE_TEMPLATES)
def test_every_text_form_ends_in_a_line_break_and_knows_its_next_turn(
    pair: Pair, name: str
) -> None:
    prompt = build_prompt(pair, TURNS, base_template=name)
    assert prompt.base.text.endswith("\n")
    # What the template itself writes for another turn would be found after an answer.
    more = [*TURNS, {"role": "assistant", "content": "Because."}, TURNS[1]]
    later = build_prompt(pair, more, base_template=name).base.text
    match = StopStrings(markers=prompt.stops).find(later[later.index("Because.") :])
    assert match is not None
    assert match.shown == len("Because.")


@pytest.mark.parametrize("name", BASE_TEMPLATES)
def test_many_turns_are_all_there_in_order(pair: Pair, name: str) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"<turn {n}>"} for n in range(41)]
    prompt = build_prompt(pair, turns, base_template=name)
    for text in (prompt.base.text, prompt.aligned.text):
        places = [text.index(turn["content"]) for turn in turns]
        assert places == sorted(places)


def test_the_aligned_model_reads_its_chat_template(pair: Pair) -> None:
    prompt = build_prompt(pair, TURNS).aligned
    assert prompt.text == (
        "<s>[system]Be brief.</s>[user]Hi.</s>[assistant]Hello!</s>[user]Why?\nTell me.</s>"
        "[assistant]"
    )
    assert special_ids(pair.aligned, prompt.ids) == [1, 2, 2, 2, 2]


def test_a_template_of_ones_own_is_used_for_either_model(pair: Pair) -> None:
    own = BaseTemplate("{{ system }}|{% for m in messages %}{{ m.content }};{% endfor %}", ("|",))
    prompt = build_prompt(
        pair, TURNS, base_template=own, aligned_template="{{ messages[-1].content }}>"
    )
    assert prompt.base.text == "Be brief.|Hi.;Hello!;Why?\nTell me.;"
    assert prompt.stops == ("|",)
    assert prompt.aligned.text == "Why?\nTell me.>"


def test_the_bases_own_chat_template_can_be_chosen(pair: Pair) -> None:
    both = Pair(base=pair.aligned, aligned=pair.aligned)
    prompt = build_prompt(both, TURNS, base_template="chat")
    assert prompt.base == prompt.aligned
    assert prompt.stops == ()


@pytest.mark.parametrize("thinking", [True, False])
def test_the_wish_to_think_reaches_the_template(thinking: bool) -> None:
    guide = small("a guide", "{{ enable_thinking is defined and enable_thinking }}")
    pair = Pair(base=guide, aligned=guide)
    assert build_prompt(pair, "Hi.", thinking=thinking).aligned.text == str(thinking)


def test_a_thinking_guide_does_not_think_unless_asked_to(published: dict[str, Pair]) -> None:
    """Qwen 3's template turns thinking on where nothing is said."""
    pair = published["qwen3"]
    assert build_prompt(pair, "Hi.").aligned.text.endswith("<think>\n\n</think>\n\n")
    assert build_prompt(pair, "Hi.", thinking=True).aligned.text.endswith("assistant\n")


def test_the_examples_have_a_list_and_a_refusal() -> None:
    answers = [answer for _, answer in SHOWN]
    assert any(answer.startswith("1. ") and "\n2. " in answer for answer in answers)
    assert any("can't help" in answer for answer in answers)


@pytest.mark.parametrize("name", PUBLISHED)
@settings(deadline=None, max_examples=60)
@given(text=TEXTS.filter(lambda text: bool(text.strip())))
def test_no_control_token_arises_from_what_a_user_writes(
    published: dict[str, Pair], name: str, text: str
) -> None:
    pair = published[name]
    harmless = build_prompt(pair, "x").aligned
    prompt = build_prompt(pair, text).aligned
    expected = special_ids(pair.aligned, harmless.ids)
    assert special_ids(pair.aligned, prompt.ids) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_control_token_spelled_by_a_user_stays_text(
    published: dict[str, Pair], name: str
) -> None:
    model = published[name].aligned
    spellings = model.vocabulary.special_spellings
    text = "Ä " + "".join(spellings) + " ".join(spellings) + spellings[0] * 3 + " ö"
    turns = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": text},
        {"role": "user", "content": text},
    ]
    plain = [{**turn, "content": "x"} for turn in turns]
    for wanted, given_turns in ((build_prompt(published[name], plain), turns),):
        prompt = build_prompt(published[name], given_turns)
        assert special_ids(model, prompt.aligned.ids) == special_ids(model, wanted.aligned.ids)
        assert special_ids(model, prompt.base.ids) == list(model.beginning)
        written = model.vocabulary.bytes_of(prompt.aligned.ids).decode()
        assert written.count(text) == 3
        assert prompt.aligned.text.count(text) == 3


@pytest.mark.parametrize("kind", ["prepend", "metaspace"])
def test_shielding_leaves_no_space_and_no_shield_behind(kind: str) -> None:
    tokenizer = sentencepiece_tokenizer(kind)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | tojson }}{% endfor %}"
    guide = language_model(tokenizer, "a guide")
    prompt = build_prompt(Pair(base=guide, aligned=guide), "a</s>b<s>").aligned
    assert prompt.text == '"a</s>b<s>"'
    # What the tokenizer puts before the whole text is its own affair.
    assert guide.vocabulary.bytes_of(prompt.ids).removeprefix(b" ") == b'"a</s>b<s>"'
    assert special_ids(guide, prompt.ids) == [1]  # the beginning


def test_text_that_contains_noncharacters_keeps_them(pair: Pair) -> None:
    text = "".join(map(chr, range(0xFDD0, 0xFDF0))) + "</s>"
    prompt = build_prompt(pair, text).aligned
    assert f"[user]{text}</s>[assistant]" in prompt.text
    assert text.encode() in pair.aligned.vocabulary.bytes_of(prompt.ids)


def test_text_that_contains_every_noncharacter_is_refused(pair: Pair) -> None:
    every = [*range(0xFDD0, 0xFDF0), *(0xFFFE + n + 0x10000 * p for p in range(17) for n in (0, 1))]
    with pytest.raises(PromptError, match="every noncharacter"):
        build_prompt(pair, "".join(map(chr, every)))


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("base_template", [*BASE_TEMPLATES, "chat"])
def test_the_beginning_is_read_exactly_once_by_each_model(
    published: dict[str, Pair], name: str, base_template: str
) -> None:
    pair = published[name]
    beginning = pair.base.beginning
    assert bool(beginning) == (name != "qwen3")
    prompt = build_prompt(pair, "Hi.", base_template=base_template)
    for ids in (prompt.base.ids, prompt.aligned.ids):
        assert ids[: len(beginning)] == beginning
        assert all(ids.count(token) == 1 for token in beginning)


def test_a_template_that_forgets_the_beginning_gets_it() -> None:
    guide = small("a guide", "{{ messages[0].content }}")
    prompt = build_prompt(Pair(base=guide, aligned=guide), "Hi.")
    assert prompt.aligned.ids[0] == guide.beginning[0] == 1
    assert prompt.aligned.ids.count(1) == prompt.base.ids.count(1) == 1


def test_the_ids_of_the_base_write_its_text(pair: Pair) -> None:
    prompt = build_prompt(pair, TURNS).base
    assert pair.base.vocabulary.bytes_of(prompt.ids) == prompt.text.encode()


@pytest.mark.parametrize("text", ["a", "\n.", "☃", "0", "\x01"])
def test_one_character_is_a_prompt(pair: Pair, text: str) -> None:
    prompt = build_prompt(pair, text, base_template=BaseTemplate("{{ messages[0].content }}"))
    assert prompt.base.text == text
    assert len(prompt.base.ids) > len(pair.base.beginning)


def test_an_aligned_model_without_chat_template_is_refused_by_name(pair: Pair) -> None:
    swapped = Pair(base=pair.aligned, aligned=pair.base)
    with pytest.raises(PairError, match=r"^a base has no chat template.*--aligned-template"):
        build_prompt(swapped, "Hi.")
    given_one = build_prompt(swapped, "Hi.", aligned_template="{{ messages[0].content }}")
    assert given_one.aligned.text == "Hi."


def test_a_base_without_chat_template_cannot_be_asked_for_it(pair: Pair) -> None:
    with pytest.raises(PairError, match="a base has no chat template; choose another"):
        build_prompt(pair, "Hi.", base_template="chat")


def test_an_unknown_base_template_is_refused_with_the_known_ones(pair: Pair) -> None:
    with pytest.raises(
        ValueError, match="one of query, examples, transcript, plain, chat, not 'chatty'"
    ):
        build_prompt(pair, "Hi.", base_template="chatty")


@pytest.mark.parametrize(
    "source", ["{{", "{% for %}", "{{ 1 / 0 }}", "{{ 1 + 'a' }}", "{{ raise_it() }}"]
)
def test_a_template_that_cannot_be_rendered_is_refused(pair: Pair, source: str) -> None:
    with pytest.raises(PairError, match="the base template cannot be rendered"):
        build_prompt(pair, "Hi.", base_template=BaseTemplate(source))


@pytest.mark.parametrize("source", ["{{", "{{ raise_exception('no system here') }}", "{{ 1 / 0 }}"])
def test_a_chat_template_that_cannot_be_rendered_names_its_model(pair: Pair, source: str) -> None:
    with pytest.raises(PairError, match="a guide: its chat template cannot be rendered"):
        build_prompt(pair, "Hi.", aligned_template=source)


USER = {"role": "user", "content": "Hi."}
ANSWER = {"role": "assistant", "content": "Hello!"}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "must end with a user message"),
        ([SYSTEM], "must end with a user message"),
        ([USER, ANSWER], "must end with a user message"),
        ([USER, SYSTEM, USER], "message 2 is a system message; only the first may be one"),
        ([USER, {"role": "tool", "content": "x"}, USER], "message 2 needs a role"),
        ([{"role": "user"}], "message 1 needs a role .* and a content string"),
        ([{"content": "Hi."}], "message 1 needs a role"),
        ([USER, ANSWER, {"role": "user", "content": None}], "message 3 needs a role"),
        ([{"role": "user", "content": ["Hi."]}], "message 1 needs a role"),
        ([USER, {**ANSWER, "content": "x\ud83d"}, USER], "message 2 .* surrogate at character 1"),
        ([USER, ANSWER, {**USER, "content": " \n\t"}], "the prompt is empty"),
    ],
)
def test_a_bad_conversation_is_refused_by_the_number_of_the_message(
    messages: list[Any], complaint: str
) -> None:
    with pytest.raises(PromptError, match=complaint):
        check_messages(messages)


@given(st.text("\ud800\udfff \n\tab", max_size=6))
def test_a_text_prompt_is_accepted_exactly_if_it_says_something_in_unicode(text: str) -> None:
    wanted = bool(text.strip()) and not any(0xD800 <= ord(char) < 0xE000 for char in text)
    if wanted:
        assert check_messages(text) == [{"role": "user", "content": text}]
    else:
        with pytest.raises(PromptError):
            check_messages(text)


def test_an_empty_system_prompt_is_no_system_prompt(pair: Pair) -> None:
    silent = [{"role": "system", "content": ""}, USER]
    for name in BASE_TEMPLATES:
        prompt = build_prompt(pair, silent, base_template=name)
        assert prompt.base == build_prompt(pair, "Hi.", base_template=name).base


def test_the_callers_messages_are_left_as_they_were(pair: Pair) -> None:
    message = {"role": "user", "content": "a</s>b"}
    build_prompt(pair, [message])
    assert message == {"role": "user", "content": "a</s>b"}
    assert replace(build_prompt(pair, "x"), stops=()) == replace(build_prompt(pair, "x"), stops=())
