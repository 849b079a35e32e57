"""When an answer ends, under every stop policy, and that an end taken back leaves no trace."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from blendin_mlx.blend.methods import make_method
from blendin_mlx.decoding.rules import MAX_TAKEBACKS
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import build_prompt
from scripted import (
    CONTROL,
    OTHER_STOP,
    OTHER_WORDS,
    STOP,
    WORDS,
    Row,
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

POLICIES = ("blend", "base", "either", "guide")
NEVER_STOPS = always({" deep": 0.95})


@pytest.mark.parametrize("policy", ["blend", "base", "either"])
def test_a_base_that_is_sure_of_stop_ends_the_answer_alone(policy: Any) -> None:
    pair = scripted_pair(writes("The", " sea"), NEVER_STOPS)
    got = answer(pair, stop_policy=policy)
    assert (got.text, got.finish_reason) == ("The sea", "stop")
    assert got.steps[-1].source == "base"
    assert got.statistics.aligned.passes == 0


@pytest.mark.parametrize("policy", ["blend", "either"])
def test_stop_wins_the_blend_though_neither_model_has_it_on_top(policy: Any) -> None:
    base = says({"": {"The": 0.9}, "The": {" sea": 0.35, STOP: 0.3}})
    guide = always({" blue": 0.45, STOP: 0.4})
    got = answer(scripted_pair(base, guide), stop_policy=policy)
    assert (got.text, got.finish_reason) == ("The", "stop")
    assert (got.steps[-1].source, got.steps[-1].is_override) == ("blend", True)


def test_only_under_the_policy_base_can_the_guide_not_bury_an_unsure_end() -> None:
    base = says({"": {"The": 0.9}, "The": {STOP: 0.35, " sea": 0.2}}, otherwise={STOP: 0.35})
    ended = {}
    for policy in POLICIES:
        got = answer(scripted_pair(base, NEVER_STOPS), stop_policy=policy, max_tokens=6)
        ended[policy] = (got.text, got.finish_reason)
    buried = ("The" + 5 * " deep", "length")
    assert ended == {"base": ("The", "stop"), "blend": buried, "either": buried, "guide": buried}


def test_the_policy_base_reports_stop_where_the_blend_would_not_have_chosen_it() -> None:
    base = says({"": {"The": 0.9}, "The": {STOP: 0.35, " sea": 0.2}})
    last = answer(scripted_pair(base, NEVER_STOPS), stop_policy="base").steps[-1]
    assert last.is_stop
    assert last.prob == pytest.approx(0.35, abs=1e-3)
    assert (last.source, last.guidance) == ("base", None)


class TestStopIsOneEvent:
    """The STOP class counts as a whole, whichever of its tokens has the mass."""

    BASE: tuple[Row, Row, float] = ({"The": 0.9}, {" sea": 0.35}, 0.3)
    GUIDE: tuple[Row, Row, float] = ({}, {" blue": 0.45}, 0.4)

    @staticmethod
    def script(first: Row, then: Row, stop: float, share: float) -> Script:
        mass = {STOP: stop * share, OTHER_STOP: stop * (1 - share)}
        return says({"": first, "The": {**then, **mass}}, otherwise={" blue": 0.9})

    @pytest.mark.parametrize("policy", POLICIES)
    @pytest.mark.parametrize("sure", [False, True])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_how_its_mass_is_split_and_numbered_changes_nothing(
        self, policy: Any, sure: bool, tokenizers: int
    ) -> None:
        first, then, stop = self.BASE
        base = (first, {}, 0.9) if sure else (first, then, stop)
        seen = set()
        for share, other, turned in product((0.0, 0.5, 1.0), (0.0, 0.5, 1.0), (False, True)):
            order = CONTROL[::-1] if turned else CONTROL
            one = scripted_tokenizer(WORDS, order)
            two = scripted_tokenizer(OTHER_WORDS, CONTROL, True) if tokenizers == 2 else one
            pair = Pair(
                scripted_model(self.script(*base, share), "base", tokenizer=one),
                scripted_model(self.script(*self.GUIDE, other), "guide", tokenizer=two),
            )
            got = answer(pair, stop_policy=policy, max_tokens=3)
            probs = tuple(round(step.prob, 4) for step in got.steps)
            ends = tuple(round(step.stop_prob, 4) for step in got.steps)
            seen.add((got.text, got.finish_reason, probs, ends))
        assert len(seen) == 1

    @pytest.mark.parametrize("base", [STOP, OTHER_STOP])
    @pytest.mark.parametrize("guide", [STOP, OTHER_STOP])
    def test_models_that_end_by_different_tokens_agree_about_the_end(
        self, base: str, guide: str
    ) -> None:
        # A model whose class has one token only, and one that has both.
        classes = {STOP: [STOP], OTHER_STOP: [STOP, OTHER_STOP]}
        script = says({"": {"The": 0.9}, "The": {" sea": 0.35, base: 0.3}})
        pair = Pair(
            scripted_model(script, "base", stops=classes[base]),
            scripted_model(always({" blue": 0.45, guide: 0.4}), "guide", stops=classes[guide]),
        )
        got = answer(pair)
        assert (got.text, got.finish_reason) == ("The", "stop")


def endless() -> Script:
    """Writes a few words, then nothing but line breaks."""
    return says({"": {"The": 0.9}, "The": {" sea": 0.9}}, otherwise={"\n\n": 0.9})


class TestEither:
    """A sure base that opens a new line: the guide says whether the answer is over."""

    @pytest.mark.parametrize("policy", ["either", "guide"])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_the_guide_ends_it_and_the_line_break_is_no_part_of_it(
        self, policy: Any, tokenizers: int
    ) -> None:
        guide = says({"The sea": {STOP: 0.51, " blue": 0.48}}, otherwise={" blue": 0.9})
        pair = scripted_pair(endless(), guide, tokenizers=tokenizers)
        got = answer(pair, stop_policy=policy)
        assert (got.text, got.finish_reason) == ("The sea", "stop")
        last = got.steps[-1]
        assert (last.source, last.stop_check, last.guidance) == ("aligned", True, None)
        assert last.stop_prob == pytest.approx(0.51, abs=1e-3)
        assert got.statistics.stop_checks == 1

    def test_below_one_half_the_base_goes_on(self) -> None:
        pair = scripted_pair(endless(), always({STOP: 0.49, " blue": 0.5}))
        got = answer(pair, max_tokens=5)
        assert got.text == "The sea" + 3 * "\n\n"
        assert got.finish_reason == "length"
        assert (got.statistics.stop_checks, got.statistics.interventions) == (3, 0)

    @pytest.mark.parametrize("policy", ["blend", "base"])
    def test_other_policies_do_not_ask(self, policy: Any) -> None:
        pair = scripted_pair(endless(), always({STOP: 0.9}))
        got = answer(pair, stop_policy=policy, max_tokens=5)
        assert got.finish_reason == "length"
        assert got.statistics.aligned.passes == 0


class TestGuide:
    """Under the policy ``guide`` an end that comes too early is taken back."""

    def test_a_stop_that_comes_too_early_is_taken_back_until_the_guide_agrees(self) -> None:
        pair = scripted_pair(always({STOP: 0.9}), writes("The", " sea", " is", " wide"))
        got = answer(pair, stop_policy="guide")
        assert (got.text, got.finish_reason) == ("The sea is wide", "stop")
        assert [step.source for step in got.steps] == [*4 * ["blend"], "base"]
        assert got.steps[-1].stop_check

    def test_a_stop_that_won_the_blend_is_taken_back_too(self) -> None:
        base = says({"": {STOP: 0.39}, "The": {STOP: 0.9}})
        guide = says({"": {STOP: 0.3, "The": 0.35}, "The": {STOP: 0.9}})
        assert answer(scripted_pair(base, guide), stop_policy="either").text == ""
        assert answer(scripted_pair(base, guide), stop_policy="guide").text == "The"

    @pytest.mark.parametrize("marker", [["# Query:"], ["#", *" Query:"], ["# Q", "u", "ery:"]])
    def test_a_turn_marker_is_taken_back_and_leaves_no_trace(self, marker: list[str]) -> None:
        tokenizer = scripted_tokenizer((*WORDS, "ery:"))
        base = writes("The", " sea", "\n\n", *marker, "\n\n", otherwise={STOP: 0.9})
        guide = says({"The sea\n\n": {"Yes": 0.6, " sea": 0.3}, "The sea\n\nYes": {STOP: 0.9}})
        pair = Pair(
            scripted_model(base, "base", tokenizer=tokenizer),
            scripted_model(guide, "guide", tokenizer=tokenizer),
        )
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        got = answer(pair, prompt, stop_policy="guide", prompt_cache=cache)
        expected = ["The", " sea", "\n\n", "Yes"]
        ids = tokenizer.convert_tokens_to_ids(["The", "Ġsea", "ĊĊ", "Yes"])
        assert got.text == got.pieces_text == got.statistics.text == "".join(expected)
        assert got.finish_reason == "stop"
        assert [step.index for step in got.steps] == [0, 1, 2, 3, 4]
        assert got.statistics.token_ids[:-1] == ids
        assert [step.id for step in got.steps] == got.statistics.token_ids
        assert (got.statistics.interventions, got.statistics.overrides) == (1, 1)
        assert_in_step(cache, prompt, ids)

    def test_the_token_that_began_the_marker_is_not_written_again(self) -> None:
        base = writes("The", "\n\n", "# Query:", otherwise={STOP: 0.9})
        guide = says(
            {"The": {" sea": 0.9}, "The\n\n": {"# Query:": 0.6, " sea": 0.3}},
            otherwise={STOP: 0.9},
        )
        got = answer(scripted_pair(base, guide), stop_policy="guide")
        assert got.text == "The\n\n sea"
        assert got.steps[2].instead_of == got.steps[2].base.id

    def test_where_the_guide_agrees_after_a_taken_back_marker_the_answer_ends(self) -> None:
        """Even where the blend itself would go on."""
        base = says(
            {"": {"The": 0.9}, "The": {"\n\n": 0.9}, "The\n\n": {"# Query:": 0.6, " sea": 0.35}}
        )
        guide = says({"The\n\n": {STOP: 0.6}}, otherwise={" sea": 0.9})
        method = make_method("fixed", alpha=0.1)
        got = answer(scripted_pair(base, guide), stop_policy="guide", method=method)
        assert (got.text, got.finish_reason) == ("The\n\n", "stop")
        assert (got.steps[-1].source, got.steps[-1].stop_check) == ("aligned", True)

    @pytest.mark.parametrize("policy", ["blend", "base", "either"])
    def test_under_other_policies_a_turn_marker_ends_the_answer(self, policy: Any) -> None:
        base = writes("The", "\n\n", "# Query:", otherwise={STOP: 0.9})
        got = answer(scripted_pair(base, always({" sea": 0.9})), stop_policy=policy)
        assert (got.text, got.finish_reason) == ("The", "stop_string")

    def test_a_stop_string_of_the_user_is_never_taken_back(self) -> None:
        base = writes("The", "END")
        got = answer(scripted_pair(base, NEVER_STOPS), stop_policy="guide", stop=["END"])
        assert (got.text, got.finish_reason) == ("The", "stop_string")

    def test_text_that_was_shown_is_not_taken_back(self) -> None:
        """One token holds a line's last character and the marker's first."""
        tokenizer = scripted_tokenizer((*WORDS, ".\n#"))
        base = writes("The", ".\n#", *" Query:", otherwise={STOP: 0.9})
        pair = Pair(
            scripted_model(base, "base", tokenizer=tokenizer),
            scripted_model(always({" sea": 0.9}), "guide", tokenizer=tokenizer),
        )
        got = answer(pair, stop_policy="guide")
        assert (got.text, got.finish_reason) == (got.statistics.text, "stop_string")
        assert got.text == "The."

    def test_a_base_that_always_stops_is_taken_back_a_bounded_number_of_times(self) -> None:
        got = answer(scripted_pair(always({STOP: 0.9}), NEVER_STOPS), stop_policy="guide")
        assert (got.text, got.finish_reason) == (MAX_TAKEBACKS * " deep", "stop")

    def test_a_base_that_always_begins_a_turn_is_taken_back_a_bounded_number_of_times(
        self,
    ) -> None:
        def base(written: bytes) -> Row:
            return {"# Query:": 0.9} if written.endswith(b"\n\n") else {"\n\n": 0.9}

        pair = scripted_pair(base, NEVER_STOPS)
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        got = answer(pair, prompt, stop_policy="guide", max_tokens=500, prompt_cache=cache)
        assert got.finish_reason == "stop_string"
        assert got.text == MAX_TAKEBACKS * "\n\n deep"
        answer_ids = got.statistics.token_ids
        assert [step.index for step in got.steps] == list(range(len(answer_ids)))
        # What the base wrote last was not read any more.
        assert cache.base.tokens == [*prompt.base.ids, *answer_ids[:-1]]

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_a_base_with_any_early_ends_goes_on_as_the_guide_would(self, tokenizers: int) -> None:
        base = writes("The", " sea", "\n\n", "# Query:", otherwise={STOP: 0.9})
        guide = says(
            {
                "The sea": {b" ": 0.9},
                "The sea\n\n": {b"Y": 0.9},
                "The sea\n\nY": {b"e": 0.9},
                "The sea\n\nYe": {STOP: 0.9},
            }
        )
        pair = scripted_pair(base, guide, tokenizers=tokenizers)
        got = answer(pair, stop_policy="guide")
        assert (got.text, got.finish_reason) == ("The sea\n\nYe", "stop")
