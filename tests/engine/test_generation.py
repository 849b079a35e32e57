"""Text on top of steps: streaming, stop strings, limits, interrupts, what is counted."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from blendin_mlx.blend.methods import make_method
from blendin_mlx.errors import PromptError
from blendin_mlx.generation import generate, stream_generate
from blendin_mlx.inspection import look_at
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import PairPrompt, Prompt, build_prompt
from blendin_models import load_pair
from scripted import (
    CONTROL,
    OTHER_WORDS,
    STOP,
    Answer,
    Script,
    always,
    answer,
    assert_in_step,
    says,
    scripted_model,
    scripted_pair,
    scripted_tokenizer,
    writes,
)
from tiny_folders import write_model

SENTENCE = ("The", " sea", " is", " blue", " is", " wide", ".")
AGREES = always({STOP: 0.6})


def assert_whole(got: Answer) -> None:
    """What holds of every answer: nothing is lost, twice, or out of order; the end comes last."""
    assert [step.index for step in got.steps] == list(range(len(got.steps)))
    assert [step.id for step in got.steps] == got.statistics.token_ids
    assert got.pieces_text.startswith(got.text)
    assert got.text == got.statistics.text
    reasons = [response.finish_reason for response in got.responses]
    assert reasons[-1] is not None
    assert not any(reasons[:-1])
    assert got.statistics.finish_reason == reasons[-1]
    if got.finish_reason != "stop_string":
        assert got.pieces_text == got.text


class TestLimits:
    @pytest.mark.parametrize("most", [1, 3, 7])
    def test_at_most_max_tokens_are_produced(self, most: int) -> None:
        got = answer(scripted_pair(writes(*SENTENCE), AGREES), max_tokens=most)
        assert (got.text, got.finish_reason) == ("".join(SENTENCE[:most]), "length")
        assert got.statistics.completion_tokens == most
        assert got.statistics.base.passes == most
        assert_whole(got)

    def test_an_end_within_max_tokens_is_a_stop(self) -> None:
        got = answer(scripted_pair(writes(*SENTENCE), AGREES), max_tokens=len(SENTENCE) + 1)
        assert (got.text, got.finish_reason) == ("".join(SENTENCE), "stop")
        assert_whole(got)

    @pytest.mark.parametrize("who", ["base", "guide"])
    @pytest.mark.parametrize("room", [1, 2, 4])
    def test_the_answer_ends_where_one_context_is_full(self, who: str, room: int) -> None:
        got = answer(_limited(who, room))
        assert (got.text, got.finish_reason) == ("".join(SENTENCE[:room]), "context")
        assert_whole(got)

    def test_the_guide_s_limit_counts_its_own_tokens(self) -> None:
        """Its tokens of the same text are other ones, and more."""
        pair = _limited("guide", 6, tokenizers=2)
        got = answer(pair)
        assert got.finish_reason == "context"
        assert len(pair.aligned.vocabulary.encode(got.text)) >= 6
        assert len(pair.aligned.vocabulary.encode("".join(got.text.rsplit(" ", 1)[:-1]))) < 6

    @pytest.mark.parametrize(("who", "name"), [("base", "scripted base"), ("guide", "guide")])
    @pytest.mark.parametrize("room", [0, -5])
    def test_a_prompt_longer_than_a_context_is_refused(
        self, who: str, name: str, room: int
    ) -> None:
        pair = _limited(who, room)
        model = pair.base if who == "base" else pair.aligned
        cache = make_prompt_cache(pair)
        expected = rf"{name}.* {model.context_limit}\b"
        with pytest.raises(PromptError, match=expected):
            answer(pair, prompt_cache=cache)
        assert cache.base.tokens == []

    @pytest.mark.parametrize("method", ["base", make_method("blendin", tau=0.0)])
    @pytest.mark.parametrize("room", [-5, 0, 2])
    def test_the_guide_s_limit_is_nothing_to_the_base_alone(self, method: Any, room: int) -> None:
        got = answer(_limited("guide", room), method=method)
        assert (got.text, got.finish_reason) == ("".join(SENTENCE), "stop")


def _limited(who: str, room: int, tokenizers: int = 1) -> Pair:
    """A pair of which one context has room for so many tokens after the prompt."""
    pair = scripted_pair(writes(*SENTENCE), AGREES, tokenizers=tokenizers)
    prompt = build_prompt(pair, "Hi")
    model, read = (pair.base, prompt.base) if who == "base" else (pair.aligned, prompt.aligned)
    model.config["max_position_embeddings"] = len(read.ids) + room
    return pair


class TestInterrupts:
    """``should_stop`` may become true at any moment, in either prefill or between two tokens."""

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_whenever_it_happens_the_next_call_is_as_from_scratch(self, tokenizers: int) -> None:
        pair = scripted_pair(
            says(
                {"": {"The": 0.9}, "The": {" sea": 0.3}, "The ": {b"a": 0.3}, "The a": {b".": 0.9}},
                otherwise={STOP: 0.9},
            ),
            says({"The": {b" ": 0.6}}, otherwise={b"a": 0.6}),
            tokenizers=tokenizers,
        )
        prompt = build_prompt(pair, "Hi")
        whole = answer(pair, prompt)
        assert whole.text == "The a."
        texts = []
        for moment in count():
            cache = make_prompt_cache(pair, prefill_step_size=16)
            ticks = count()
            got = answer(
                pair,
                prompt,
                prompt_cache=cache,
                should_stop=lambda ticks=ticks, moment=moment: next(ticks) >= moment,
            )
            if got.finish_reason == "stop":
                break
            assert got.finish_reason == "interrupted"
            assert_whole(got)
            texts.append(got.text)
            again = answer(pair, prompt, prompt_cache=cache)
            assert again.text == whole.text
            assert again.statistics.token_ids == whole.statistics.token_ids
            assert cache.base.rereads + cache.aligned.rereads == 0
        in_base = -(-(len(prompt.base.ids) - 1) // 16)
        in_guide = -(-(len(prompt.aligned.ids) - 1) // 16)
        assert texts == [
            *(in_base + in_guide + 1) * [""],
            *("The", "The ", "The a", "The a."),
        ]

    def test_after_one_another_prompt_can_be_answered(self) -> None:
        pair = scripted_pair(writes(*SENTENCE), AGREES)
        cache = make_prompt_cache(pair, prefill_step_size=16)
        answer(pair, "Hi", prompt_cache=cache, should_stop=lambda: True)
        got = answer(pair, "How wide is the sea?", prompt_cache=cache)
        fresh = answer(pair, "How wide is the sea?")
        assert got.statistics.token_ids == fresh.statistics.token_ids

    def test_time_spent_on_an_interrupted_prefill_counts_as_prefill(self) -> None:
        pair = scripted_pair(writes(*SENTENCE), AGREES)
        cache = make_prompt_cache(pair, prefill_step_size=16)
        got = answer(pair, prompt_cache=cache, should_stop=lambda: True).statistics
        assert got.prefill_s > got.decode_s

    def test_progress_is_told_for_both_prompts(self) -> None:
        pair = scripted_pair(says({"": {"The": 0.3}}, otherwise={STOP: 0.9}), AGREES)
        prompt = build_prompt(pair, "Hi")
        told: list[tuple[int, int]] = []
        answer(pair, prompt, prompt_progress_callback=lambda *at: told.append(at))
        both = len(prompt.base.ids) - 1 + len(prompt.aligned.ids) - 1
        assert told == sorted(told)
        assert (told[-1], told[0][0] > 0) == ((both, both), True)
        assert len(told) > 1

    def test_an_answer_left_half_way_leaves_usable_caches(self) -> None:
        pair = scripted_pair(writes(*SENTENCE), AGREES)
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        for response in stream_generate(pair, prompt, prompt_cache=cache):
            if response.text == " sea":
                break
        assert answer(pair, prompt, prompt_cache=cache).text == "".join(SENTENCE)


class TestCharacters:
    """A base that writes a character byte by byte; 🌊 is F0 9F 8C 8A."""

    BYTES = (b"\xf0", b"\x9f", b"\x8c", b"\x8a")

    def base(self, sure: float, *then: str) -> Script:
        """Sure of the first word, and so sure of every byte and what follows."""
        rest = writes(*self.BYTES, *then, sure=sure)
        return lambda written: rest(written[3:]) if written[:3] == b"The" else {"The": 0.9}

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_no_response_holds_half_a_character(self, tokenizers: int) -> None:
        pair = scripted_pair(self.base(0.9, "."), AGREES, tokenizers=tokenizers)
        got = answer(pair)
        assert [response.text for response in got.responses] == ["The", "", "", "", "🌊", ".", ""]
        assert_whole(got)

    def test_a_guide_with_another_tokenizer_is_not_asked_within_a_character(self) -> None:
        guide = says({"The": {b"\xf0": 0.9}, "The🌊": {b".": 0.9}}, otherwise={" blue": 0.9})
        got = answer(scripted_pair(self.base(0.3, "."), guide, tokenizers=2), max_tokens=6)
        assert got.text == "The🌊."
        assert [step.index for step in got.steps if step.is_intervention] == [1, 5]

    def test_a_guide_with_the_same_tokenizer_is(self) -> None:
        guide = writes("The", *self.BYTES)
        got = answer(scripted_pair(self.base(0.3), guide))
        assert [step.index for step in got.steps if step.is_intervention] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_under_the_policy_base_its_stop_counts_within_a_character_too(
        self, tokenizers: int
    ) -> None:
        base = says({"": {b"\xf0": 0.9}}, otherwise={STOP: 0.3})
        pair = scripted_pair(base, always({b"a": 0.9}), tokenizers=tokenizers)
        got = answer(pair, stop_policy="base", sampler=_never_draws_stop)
        assert (got.text, got.finish_reason) == ("\ufffd", "stop")

    @pytest.mark.parametrize("written", [1, 2, 3])
    @pytest.mark.parametrize("end", ["stop", "length", "interrupted"])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_bytes_still_withheld_at_the_end_become_one_replacement_character(
        self, written: int, end: str, tokenizers: int
    ) -> None:
        base = writes("The", *self.BYTES[:written] if end == "stop" else self.BYTES)
        ticks = count()
        options: dict[str, Any] = {  # type: ignore[assignment]
            "stop": {},
            "length": {"max_tokens": 1 + written},
            # It is asked once while each prompt is read.
            "interrupted": {"should_stop": lambda: next(ticks) > 2 + written},
        }[end]
        pair = scripted_pair(base, AGREES, tokenizers=tokenizers)
        got = answer(pair, **options)
        assert (got.text, got.finish_reason) == ("The\ufffd", end)
        assert_whole(got)

    def test_a_byte_that_can_be_no_character_is_shown_at_once(self) -> None:
        base = writes("The", b"\xf0", " sea")
        got = answer(scripted_pair(base, AGREES))
        assert [response.text for response in got.responses] == ["The", "", "\ufffd sea", ""]
        assert_whole(got)


def _never_draws_stop(scores: Any) -> Any:
    """A sampler that takes the likeliest token that writes text."""
    return scores[..., len(CONTROL) :].argmax(axis=-1) + len(CONTROL)


class TestStopStrings:
    @pytest.mark.parametrize(
        ("tokens", "stop", "shown"),
        [
            (["The", "END", "."], ["END"], "The"),
            (["The", " EN", "D", "."], ["END"], "The "),
            (["The", " EN", "D", "."], [" END"], "The"),
            (["The", *"END", "ways"], ["END"], "The"),
            (["The", " EN", "D", "."], ["ND", "END"], "The "),
            (["The", " ", "E", "EN", "D"], ["END"], "The E"),
            (["END", "The"], ["END"], ""),
            (["The", *(b"\xf0", b"\x9f", b"\x8c", b"\x8a"), "."], ["🌊"], "The"),
        ],
    )
    def test_no_part_of_one_is_ever_shown(
        self, tokens: list[Any], stop: list[str], shown: str
    ) -> None:
        tokenizer = scripted_tokenizer(("The", " EN", "END", "EN", "ways"))
        pair = Pair(
            scripted_model(writes(*tokens), "base", tokenizer=tokenizer),
            scripted_model(AGREES, "guide", tokenizer=tokenizer),
        )
        got = answer(pair, stop=stop)
        assert (got.text, got.finish_reason) == (shown, "stop_string")
        assert_whole(got)

    def test_what_only_looked_like_one_is_shown(self) -> None:
        got = answer(scripted_pair(writes("The", " EN", "ways", " E", "N"), AGREES), stop=["END"])
        assert [response.text for response in got.responses] == [
            *("The", " ", "ENways", " ", ""),
            "EN",
        ]
        assert_whole(got)

    def test_line_breaks_before_a_turn_marker_are_not_shown(self) -> None:
        base = writes("The", " sea", "\n\n", b"\n", "# Query:", "\n\n")
        got = answer(scripted_pair(base, always({" sea": 0.6})))
        assert (got.text, got.finish_reason) == ("The sea", "stop_string")
        assert got.pieces_text == "The sea\n\n\n# Query:"
        assert_whole(got)

    @pytest.mark.parametrize("tail", [["\n\n"], [b"#"], ["\n\n", b"#", b" "], [" EN"], [b" "]])
    def test_where_stop_ends_it_the_text_is_exact_to_the_byte(self, tail: list[Any]) -> None:
        tokens = ["The", " sea", *tail]
        got = answer(scripted_pair(writes(*tokens), always({" sea": 0.6})), stop=["END"])
        expected = b"".join(t if isinstance(t, bytes) else t.encode() for t in tokens)
        assert (got.text.encode(), got.finish_reason) == (expected, "stop")
        assert_whole(got)

    def test_a_marker_that_a_limit_cut_off_is_not_shown(self) -> None:
        base = writes("The", " sea", "\n\n", b"#", " ", "# Query:")
        got = answer(scripted_pair(base, always({" sea": 0.6})), max_tokens=5)
        assert (got.text, got.statistics.text, got.finish_reason) == (*2 * ("The sea",), "length")
        assert got.pieces_text == "The sea\n\n# "

    def test_a_marker_within_a_line_ends_nothing(self) -> None:
        got = answer(scripted_pair(writes("The", " ", "# Query:", "."), AGREES))
        assert (got.text, got.finish_reason) == ("The # Query:.", "stop")


class TestCounts:
    def test_the_json_object_has_the_engine_s_groups(self) -> None:
        base = says(
            {"": {"The": 0.9}, "The": {" sea": 0.3}, "The sea": {"\n\n": 0.9}},
            otherwise={STOP: 0.9},
        )
        guide = says({"The sea": {" wide": 0.9}}, otherwise={" sky": 0.9})
        pair = scripted_pair(base, guide)
        prompt = build_prompt(pair, "Hi")
        got = answer(pair, prompt)
        found = got.statistics.as_json()
        assert set(found) == {
            *(
                "text",
                "finish_reason",
                "usage",
                "blend",
                "passes",
                "draft",
                "cache",
                "timing",
                "memory",
            ),
            "token_ids",
        }
        assert (found["text"], found["finish_reason"]) == ("The sky", "stop")
        assert found["usage"] == {
            "base_prompt_tokens": len(prompt.base.ids),
            "aligned_prompt_tokens": len(prompt.aligned.ids),
            "completion_tokens": 3,
        }
        blend = found["blend"]
        assert (blend["method"], blend["stop_policy"]) == ("blendin", "either")
        assert (blend["tau"], blend["alpha"], blend["lambda"]) == (0.4, "auto", 0.1)
        assert (blend["interventions"], blend["overrides"], blend["stop_checks"]) == (1, 1, 0)
        assert blend["intervention_rate"] == pytest.approx(1 / 3, abs=1e-6)
        assert blend["mean_alpha"] == pytest.approx(0.75, abs=1e-3)
        assert blend["exact_mass"] == pytest.approx(1.0, abs=1e-3)
        assert found["passes"] == {"base": 3, "aligned": 1}
        assert set(found["timing"]) == {"prefill_s", "decode_s", "tokens_per_s"}
        assert found["memory"]["peak_bytes"] >= 0
        assert found["token_ids"] == [step.id for step in got.steps]

    def test_mass_by_exact_match_is_the_guide_s_share_of_shared_tokens(self) -> None:
        base = says({"": {" blue": 0.3}}, otherwise={STOP: 0.9})
        guide = says({"": {" blue": 0.7, " sky is": 0.3}})
        got = answer(scripted_pair(base, guide, tokenizers=2)).statistics
        assert got.exact_mass == pytest.approx(0.7, abs=1e-3)

    def test_without_an_intervention_means_are_unknown_and_the_rate_is_0(self) -> None:
        got = answer(scripted_pair(writes(*SENTENCE), AGREES)).statistics
        assert (got.mean_alpha, got.exact_mass, got.intervention_rate) == (None, None, 0.0)

    def test_before_any_token_nothing_is_divided_by_zero(self) -> None:
        pair = scripted_pair(writes(*SENTENCE), AGREES)
        found = answer(pair, should_stop=lambda: True).statistics.as_json()
        assert found["usage"]["completion_tokens"] == 0
        assert found["blend"]["intervention_rate"] == 0.0
        assert (found["text"], found["finish_reason"]) == ("", "interrupted")

    def test_counts_are_those_of_one_call_though_the_cache_is_kept(self) -> None:
        pair = scripted_pair(writes(*SENTENCE), AGREES)
        cache = make_prompt_cache(pair)
        first = answer(pair, prompt_cache=cache).statistics
        second = answer(pair, prompt_cache=cache).statistics
        assert first.base.passes == second.base.passes == len(SENTENCE) + 1
        assert second.base.rereads == second.aligned.rereads == 0

    def test_generate_gives_the_text_of_the_stream(self) -> None:
        pair = scripted_pair(writes(*SENTENCE, "\n\n", "# Query:"), always({" sea": 0.6}))
        assert generate(pair, "Hi") == answer(pair).text == "".join(SENTENCE)

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_afterwards_both_contexts_hold_prompt_and_answer(self, tokenizers: int) -> None:
        base = says({"": {"The": 0.9}, "The": {b" ": 0.3}}, otherwise={STOP: 0.3})
        pair = scripted_pair(base, always({STOP: 0.6}), tokenizers=tokenizers)
        pair.aligned.network.script = says({"The": {b" ": 0.6}}, otherwise={STOP: 0.6})
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        got = answer(pair, prompt, prompt_cache=cache)
        assert got.text == "The "
        if tokenizers == 1:
            assert_in_step(cache, prompt, got.statistics.token_ids[:-1])
        else:
            written = pair.aligned.vocabulary.encode("The ")
            assert cache.aligned.tokens == [*prompt.aligned.ids, *written]


def test_a_pair_of_two_tokenizers_has_other_ids_for_the_same_text() -> None:
    """So that a mix-up of the two in a test above would be seen."""
    one, other = scripted_tokenizer(), scripted_tokenizer(OTHER_WORDS, CONTROL[::-1], True)
    assert one.convert_tokens_to_ids(STOP) != other.convert_tokens_to_ids(STOP)
    assert one.encode("The sea") != other.encode("The sea")


@pytest.mark.parametrize("draft", ["off", "lookup", "guide"])
def test_a_prompt_of_one_token(tmp_path, draft):
    """Nothing is left to prefill; the answer begins all the same, as the oracle has it."""
    base, aligned = (write_model(tmp_path / name, n) for n, name in enumerate(("b", "a"), 1))
    pair = load_pair(base=str(base), aligned=str(aligned))
    token = pair.base.vocabulary.encode("a")[:1]
    prompt = PairPrompt(Prompt("a", tuple(token)), Prompt("a", tuple(token)))
    method = make_method("blendin", tau=0.9)
    *_, last = stream_generate(pair, prompt, method=method, max_tokens=8, draft=draft)
    assert last.statistics.token_ids == oracle_ids(pair, token, 8)


def oracle_ids(pair, prompt, count):
    """The answer without any cache: both models read everything anew for each token."""
    written = []
    for _ in range(count):
        position = look_at(
            pair,
            PairPrompt(Prompt("", tuple(prompt)), Prompt("", tuple(prompt))),
            written,
            make_method("blendin", tau=0.9),
        )
        decides = position.blended if position.unsure else position.base
        written.append(decides[0].id)
    return written


def test_a_prompt_of_spaces_is_a_prompt_or_refused(tmp_path):
    base, aligned = (write_model(tmp_path / name, n) for n, name in enumerate(("b", "a"), 1))
    pair = load_pair(base=str(base), aligned=str(aligned))
    with pytest.raises(PromptError, match="empty"):
        generate(pair, "   ", max_tokens=2)
