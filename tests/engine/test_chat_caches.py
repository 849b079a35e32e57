"""A conversation keeps what both models have read, and nobody can tell but by the clock."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_mlx.tokens.answer_text import common_prefix
from counting import count_reads
from oracle import NEAR_TIE
from scripted import (
    CONTROL,
    STOP,
    Answer,
    answer,
    assert_holds,
    says,
    scripted_model,
    scripted_pair,
    scripted_tokenizer,
    writes,
)
from tiny import load_tokenizer

QUESTIONS = ("Why is the sea blue?", "And the sky?", "Is it wide?")
# Tokens about a joint that another text after it may split anew.
JOINT = 4


class Chat:
    """A conversation over one cache; each turn is compared with a fresh run of the same prompt."""

    def __init__(
        self, pair: Pair, system: str | None = None, thinking: bool = False, **options: Any
    ) -> None:
        self.pair = pair
        self.thinking = thinking
        self.options = options
        self.cache = make_prompt_cache(pair)
        self.system = [] if system is None else [{"role": "system", "content": system}]
        self.messages: list[dict[str, str]] = []
        self.prompts: list[PairPrompt] = []

    def ask(self, question: str, **options: Any) -> Answer:
        """One turn, its answer kept as a message."""
        self.messages.append({"role": "user", "content": question})
        messages = [*self.system, *self.messages]
        prompt = build_prompt(self.pair, messages, thinking=self.thinking)
        self.prompts.append(prompt)
        options = {**self.options, **options}
        got = answer(self.pair, prompt, prompt_cache=self.cache, **options)
        self.messages.append({"role": "assistant", "content": got.statistics.text})
        if got.finish_reason != "interrupted":
            assert_same(got, answer(self.pair, prompt, **options))
        return got

    def clear(self) -> None:
        self.messages.clear()


def assert_same(one: Answer, other: Answer) -> None:
    """Two answers to one prompt are the same, up to a near-tie that another shape decided."""
    for a, b in zip(one.steps, other.steps, strict=False):
        if a.id != b.id:
            assert min(abs(a.gap), abs(b.gap), abs(a.gate_margin or 1)) < NEAR_TIE
            return
    assert one.text == other.text
    assert one.finish_reason == other.finish_reason


def read_by(chat: Chat, question: str, **options: Any) -> tuple[int, int]:
    """How many tokens each model read during a turn."""
    base, aligned = count_reads(chat.cache.base), count_reads(chat.cache.aligned)
    chat.ask(question, **options)
    return sum(base), sum(aligned)


def talkative(tokenizers: int) -> Pair:
    """Writes "The sea is blue."; the guide is asked at the second and at the last token."""
    base = says(
        {
            "": {"The": 0.9},
            "The": {" sea": 0.3},
            "The sea": {" is": 0.9},
            "The sea is": {" blue": 0.9},
            "The sea is blue": {".": 0.9},
        },
        otherwise={STOP: 0.3},
    )
    guide = says({"The": {b" ": 0.2}}, otherwise={STOP: 0.9})
    return scripted_pair(base, guide, tokenizers=tokenizers)


class TestScripted:
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_a_later_turn_reads_only_what_is_new(self, tokenizers: int) -> None:
        chat = Chat(talkative(tokenizers), system="You are terse.")
        held = (0, 0)
        for question in QUESTIONS:
            read = read_by(chat, question)
            holds = len(chat.cache.base.tokens), len(chat.cache.aligned.tokens)
            for now, before, after in zip(read, held, holds, strict=True):
                assert after - before <= now <= after - before + JOINT
            held = holds
        assert chat.messages[-1]["content"] == "The sea is blue."

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_after_every_turn_both_contexts_hold_what_they_say(self, tokenizers: int) -> None:
        chat = Chat(talkative(tokenizers))
        for question in QUESTIONS:
            ids = chat.ask(question).statistics.token_ids[:-1]
            prompt = chat.prompts[-1]
            assert_holds(chat.cache.base, [*prompt.base.ids, *ids])
            if tokenizers == 2:
                ids = chat.pair.aligned.vocabulary.encode("The sea is blue.")
            assert_holds(chat.cache.aligned, [*prompt.aligned.ids, *ids])

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_passes_do_not_grow_with_the_conversation(self, tokenizers: int) -> None:
        chat = Chat(talkative(tokenizers))
        passes = [chat.ask(question).statistics.as_json()["passes"] for question in QUESTIONS]
        assert passes == 3 * [{"base": 6, "aligned": 2}]

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_a_shorter_conversation_after_a_clear_is_as_from_scratch(self, tokenizers: int) -> None:
        chat = Chat(talkative(tokenizers), system="You are terse.")
        for question in QUESTIONS:
            chat.ask(question)
        chat.clear()
        read = read_by(chat, "Why is the sky wide?")
        # The system prompt and the words that both first questions begin with are kept.
        first, last = chat.prompts[0], chat.prompts[-1]
        shared = common_prefix(first.base.ids, last.base.ids)
        assert shared > 10
        assert read[0] == len(last.base.ids) - shared + 5

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_the_same_question_again_reads_no_prompt_again(self, tokenizers: int) -> None:
        chat = Chat(talkative(tokenizers))
        chat.ask(QUESTIONS[0])
        chat.clear()
        read = read_by(chat, QUESTIONS[0])
        answered = len(chat.pair.aligned.vocabulary.encode("The sea is blue."))
        assert read[0] == 1 + 5  # the prompt's last token, left for the first step, and the answer
        assert read[1] <= 1 + answered + JOINT

    @pytest.mark.parametrize("moment", [0, 1, 2, 3, 5])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_a_turn_that_was_interrupted_harms_no_later_one(
        self, tokenizers: int, moment: int
    ) -> None:
        chat = Chat(talkative(tokenizers))
        chat.ask(QUESTIONS[0])
        ticks = count()
        got = chat.ask(QUESTIONS[1], should_stop=lambda: next(ticks) >= moment)
        assert got.finish_reason == "interrupted"
        assert chat.ask(QUESTIONS[2]).text == "The sea is blue."

    def test_the_guide_may_sleep_through_a_turn(self) -> None:
        chat = Chat(talkative(1))
        chat.ask(QUESTIONS[0])
        _, read = read_by(chat, QUESTIONS[1], method="base")
        assert read == 0
        assert chat.ask(QUESTIONS[2]).text == "The sea is blue."

    def test_an_end_that_was_taken_back_is_not_in_the_next_turn(self) -> None:
        base = writes("The", "\n\n", "# Query:", otherwise={STOP: 0.9})
        guide = says({"The": {" sea": 0.9}, "The\n\n": {" sea": 0.9}}, otherwise={STOP: 0.9})
        chat = Chat(scripted_pair(base, guide), stop_policy="guide")
        for question in QUESTIONS:
            assert chat.ask(question).text == "The\n\n sea"
        assert chat.prompts[-1].base.text.count("# Query:") == len(QUESTIONS)

    def test_a_cut_marker_is_forgotten_by_the_base(self) -> None:
        chat = Chat(scripted_pair(writes("The", "\n\n", "# Query:"), says({})))
        assert [chat.ask(question).text for question in QUESTIONS] == ["The", "The", "The"]
        held = chat.prompts[-1].base.ids
        assert chat.cache.base.tokens[: len(held)] == list(held)


def test_the_system_prompt_is_in_both_prompts_once_however_long_the_conversation() -> None:
    chat = Chat(talkative(2), system="You are terse.")
    for question in QUESTIONS:
        chat.ask(question)
    for n, prompt in enumerate(chat.prompts):
        for read in (prompt.base, prompt.aligned):
            assert read.text.count("You are terse.") == 1
            assert [read.text.count(asked) for asked in QUESTIONS] == [
                int(place <= n) for place in range(len(QUESTIONS))
            ]
            assert read.text.count("The sea is blue.") == n


def test_reasoning_that_a_template_drops_from_earlier_turns_is_dropped_from_the_cache(
    published_tokenizer: Callable[[str], Path],
) -> None:
    """Qwen 3's template keeps the reasoning of the last turn only; so does the base's text."""
    tokenizer = scripted_tokenizer((*("<think>", "</think>"),), (*CONTROL, "<|im_start|>"))
    tokenizer.chat_template = load_tokenizer(published_tokenizer("qwen3")).chat_template
    words = ["<think>", *"\nWaves.\n", "</think>", *"\n\nYes."]
    pair = Pair(
        scripted_model(writes(*words, sure=0.3), "base", tokenizer=tokenizer),
        scripted_model(writes(*words, sure=0.6), "guide", tokenizer=tokenizer),
    )
    chat = Chat(pair, thinking=True)
    for n, question in enumerate(QUESTIONS):
        kept = chat.cache.aligned.tokens[:]
        read = read_by(chat, question)
        assert chat.messages[-1]["content"] == "".join(words)
        prompt = chat.prompts[-1]
        assert prompt.base.text.count("Yes.") == prompt.aligned.text.count("Yes.") == n
        assert prompt.base.text.count("Waves.") == prompt.aligned.text.count("Waves.") == 0
        shared = common_prefix(kept, prompt.aligned.ids)
        assert read[1] == len(prompt.aligned.ids) - shared + len(words)
        if n:  # up to the answer whose reasoning was dropped, all is kept
            assert shared >= len(chat.prompts[-2].aligned.ids)


@pytest.mark.parametrize(("base", "aligned"), [("llama3_1", "llama3_1"), ("qwen3", "llama3_1")])
def test_real_networks_answer_a_conversation_as_from_scratch(
    tiny_pair: Callable[..., Pair], base: str, aligned: str
) -> None:
    chat = Chat(tiny_pair(base, aligned, 2.0), system=8 * "You are terse. ", max_tokens=8)
    before: PairPrompt | None = None
    for question in QUESTIONS:
        read = read_by(chat, question)
        prompt = chat.prompts[-1]
        if before is not None:
            # Random words are seldom tokenized as they were written, so they are read again;
            # the prompt before them is not.
            for tokens, now, then in zip(
                read,
                (prompt.base.ids, prompt.aligned.ids),
                (before.base.ids, before.aligned.ids),
                strict=True,
            ):
                assert tokens <= len(now) - len(then) + 8 * JOINT
                assert common_prefix(now, then) >= len(then) - JOINT
        before = prompt
    chat.clear()
    chat.ask(QUESTIONS[1])
