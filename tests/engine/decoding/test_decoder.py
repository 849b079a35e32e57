"""Whose token is taken, when the guide is asked and what it reads then, and damaged models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from blendin_mlx.blend.methods import make_method
from blendin_mlx.errors import NumericalError
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import PairPrompt, build_prompt
from scripted import STOP, Answer, answer, says, scripted_pair, writes

UNSURE = 0.3
# Writes "The sea is blue." and is unsure of its second and fourth word.
BASE = says(
    {
        "": {"The": 0.9},
        "The": {" sea": UNSURE},
        "The sea": {" is": 0.9},
        "The sea is": {" blue": UNSURE},
        "The sea is blue": {".": 0.9},
        "The sea is deep": {".": 0.9},
    },
    otherwise={STOP: 0.9},
)
# Would write "The sky is deep." and stop.
GUIDE = says(
    {
        "": {"The": 0.9},
        "The": {" sky": 0.5, " sea": 0.4},
        "The sky": {" is": 0.9},
        "The sky is": {" deep": 0.9},
        "The sky is deep": {".": 0.9},
        "The sea is": {" deep": 0.9},
    },
    otherwise={STOP: 0.9},
)


class TestWhoseTokenIsTaken:
    @pytest.mark.parametrize(
        "method",
        [
            make_method("base"),
            make_method("blendin", tau=0.0),
            make_method("fixed", tau=0.0),
            make_method("nudging", tau=0.0),
            make_method("fixed", tau=0.4, alpha=0.0),
            make_method("fixed", tau=1.0, alpha=0.0),
        ],
        ids=["base", "blendin", "fixed", "nudging", "alpha0", "alpha0-always"],
    )
    @pytest.mark.parametrize("policy", ["blend", "base", "either"])
    def test_without_weight_or_gate_it_is_the_base_s(self, method: Any, policy: Any) -> None:
        got = answer(scripted_pair(BASE, GUIDE), method=method, stop_policy=policy)
        assert (got.text, got.finish_reason) == ("The sea is blue.", "stop")
        assert all(step.id == step.base.id for step in got.steps)

    def test_with_the_method_aligned_it_is_the_guide_s(self) -> None:
        got = answer(scripted_pair(BASE, GUIDE), method="aligned", stop_policy="blend")
        assert (got.text, got.finish_reason) == ("The sky is deep.", "stop")
        assert {step.source for step in got.steps} == {"aligned"}
        assert all(step.guidance.alpha == 1.0 for step in got.steps)

    @pytest.mark.parametrize("name", ["blendin", "fixed", "nudging"])
    def test_a_guide_like_the_base_changes_nothing(self, name: str) -> None:
        got = answer(scripted_pair(BASE, BASE), method=name)
        assert got.text == "The sea is blue."
        assert (got.statistics.interventions, got.statistics.overrides) == (2, 0)

    def test_where_the_gate_is_open_the_blend_decides(self) -> None:
        got = answer(scripted_pair(BASE, GUIDE))
        assert (got.text, got.finish_reason) == ("The sea is deep.", "stop")
        assert [step.source for step in got.steps] == [
            *("base", "blend", "base", "blend"),
            *("base", "base"),
        ]
        kept, overridden = got.steps[1], got.steps[3]
        # Worked by hand: α = 0.5 / (0.3 + 0.5) + 0.1 · P_b(" sky"), whose share is 0.7 / 314.
        assert kept.guidance.alpha == pytest.approx(0.625, abs=1e-3)
        assert kept.prob == pytest.approx(0.625 * 0.4 + 0.375 * 0.3, abs=1e-3)
        assert (kept.is_intervention, kept.is_override) == (True, False)
        assert overridden.guidance.alpha == pytest.approx(0.9 / 1.2, abs=1e-3)
        assert overridden.is_override
        assert (kept.gate_margin or 0) == pytest.approx(UNSURE - 0.4, abs=1e-3)
        assert got.statistics.mean_alpha == pytest.approx((0.625 + 0.75) / 2, abs=1e-3)

    def test_at_the_gate_itself_the_base_is_not_unsure(self) -> None:
        half = says({"": {"The": 0.5, "Yes": 0.5}}, otherwise={STOP: 0.9})
        sure = answer(scripted_pair(half, GUIDE), method=make_method("nudging", tau=0.4999))
        unsure = answer(scripted_pair(half, GUIDE), method=make_method("nudging", tau=0.5001))
        assert (sure.statistics.interventions, unsure.statistics.interventions) == (0, 1)


def reading(pair: Pair, prompt: PairPrompt, **options: Any) -> tuple[Answer, list[int]]:
    """An answer, and how many tokens each pass of the guide read after its prompt but one."""
    cache = make_prompt_cache(pair)
    got = answer(pair, prompt, prompt_cache=cache, **options)
    calls: list[int] = list(pair.aligned.network.calls)
    assert cache.aligned.rereads == cache.base.rereads == 0
    prefilled = len(prompt.aligned.ids) - 1
    while prefilled > 0:
        prefilled -= calls.pop(0)
    assert cache.aligned.passes == len(calls) == got.statistics.aligned.passes
    return got, calls


class TestTheGuideReadsLate:
    def test_it_is_never_run_for_the_method_base(self) -> None:
        pair = scripted_pair(BASE, GUIDE)
        got = answer(pair, method="base", stop_policy="guide")
        assert pair.aligned.network.calls == []
        assert (got.statistics.base.passes, got.statistics.aligned.passes) == (6, 0)

    def test_before_the_first_question_it_reads_its_prompt_and_no_more(self) -> None:
        pair = scripted_pair(BASE, GUIDE)
        prompt = build_prompt(pair, "Hi")
        got = answer(pair, prompt, max_tokens=1)
        assert (got.text, got.statistics.aligned.passes) == ("The", 0)
        assert sum(pair.aligned.network.calls) == len(prompt.aligned.ids) - 1
        assert answer(pair, prompt, max_tokens=2).statistics.aligned.passes == 1

    def test_each_pass_reads_exactly_what_was_written_since_the_last(self) -> None:
        pair = scripted_pair(BASE, GUIDE)
        got, calls = reading(pair, build_prompt(pair, "Hi"))
        assert [step.index for step in got.steps if step.is_intervention] == [1, 3]
        assert calls == [1 + 1, 2]  # the prompt's last token and "The"; then " sea is"

    def test_it_reads_its_own_tokens_of_the_same_text(self) -> None:
        pair = scripted_pair(BASE, says({"The sea is": {" blue": 0.9}}), tokenizers=2)
        got, calls = reading(pair, build_prompt(pair, "Hi"))
        assert got.text == "The sea is blue."
        vocabulary = pair.aligned.vocabulary
        first, second = vocabulary.encode("The"), vocabulary.encode("The sea is")
        assert [vocabulary.bytes_of([token]) for token in first] == [b"Th", b"e"]
        assert [vocabulary.bytes_of([token]) for token in second[:2]] == [b"Th", b"e sea"]
        # "e" is forgotten, since it has become "e sea".
        assert calls == [1 + len(first), len(second) - 1]

    @pytest.mark.parametrize("policy", ["blend", "base", "either", "guide"])
    @pytest.mark.parametrize("name", ["blendin", "nudging", "aligned"])
    def test_passes_are_interventions_and_stop_checks(self, policy: Any, name: str) -> None:
        base = says(
            {
                "": {"The": 0.9},
                "The": {"\n\n": 0.9},
                "The\n\n": {" sea": UNSURE},
                "The\n\n sea": {"\n\n": 0.9},
                "The\n\n sea\n\n": {" is": 0.9},
            },
            otherwise={STOP: 0.9},
        )
        guide = says({"The\n\n sea\n\n is": {" blue": 0.9}}, otherwise={" sea": 0.4, "The": 0.3})
        pair = scripted_pair(base, guide)
        got, calls = reading(pair, build_prompt(pair, "Hi"), method=name, stop_policy=policy)
        asked = [step.index for step in got.steps if step.is_intervention or step.stop_check]
        statistics = got.statistics
        assert len(asked) == statistics.interventions + statistics.stop_checks == len(calls)
        assert calls == [after - before for before, after in zip([-1, *asked], asked, strict=False)]
        assert not any(step.is_intervention and step.stop_check for step in got.steps)


class TestDamagedModels:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_a_base_without_finite_logits_is_named_with_the_position(
        self, bad: float, tokenizers: int
    ) -> None:
        base = says({"": {"The": 0.9}, "The": {" sea": 0.9}}, otherwise={" is": bad})
        pair = scripted_pair(base, says({}), tokenizers=tokenizers)
        with pytest.raises(NumericalError, match=r"scripted base .*token 2 of the answer"):
            answer(pair)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("policy", ["blend", "either", "guide"])
    def test_a_guide_is_named_where_it_is_asked(self, bad: float, policy: Any) -> None:
        pair = scripted_pair(BASE, says({"The sea is": {" deep": bad}}))
        with pytest.raises(NumericalError, match=r"scripted guide .*token 3 of the answer"):
            answer(pair, stop_policy=policy)

    @pytest.mark.parametrize("method", ["base", make_method("blendin", tau=0.1)])
    def test_a_guide_that_is_not_asked_may_be_damaged(self, method: Any) -> None:
        pair = scripted_pair(BASE, lambda written: {" deep": math.nan})
        assert answer(pair, method=method).text == "The sea is blue."

    @pytest.mark.parametrize(("end", "asks"), [("\n\n", "either"), (STOP, "guide")])
    def test_a_guide_is_named_where_it_is_only_asked_about_the_end(
        self, end: str, asks: Any
    ) -> None:
        base = says({"": {"The": 0.9}}, otherwise={end: 0.9})
        pair = scripted_pair(base, lambda written: {" deep": math.nan})
        with pytest.raises(NumericalError, match=r"scripted guide .*token 1 of the answer"):
            answer(pair, stop_policy=asks)

    def test_logits_of_minus_infinity_are_no_damage(self) -> None:
        """Some models mask tokens so; NaN is what a sum of them must not become."""
        pair = scripted_pair(says({"": {"The": 1.0}}, otherwise={STOP: 1.0}), GUIDE)
        whole = pair.base.network._logits
        pair.base.network._logits = lambda read: _masked(whole(read))
        assert answer(pair).text == "The"

    def test_the_steps_before_the_damage_were_given(self) -> None:
        pair = scripted_pair(says({"": {"The": 0.9}}, otherwise={" is": math.nan}), GUIDE)
        seen = []
        with pytest.raises(NumericalError):
            seen.extend(stream_generate(pair, "Hi"))
        assert "".join(response.text for response in seen) == "The"


def _masked(row: Any) -> Any:
    return np.where(row < -60, -np.inf, row)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bland"}, "method must be one of base, .*'bland'"),
        ({"stop_policy": "never"}, "stop policy must be one of blend, .*'never'"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"projection": "none"}, "projection must be"),
        ({"stop": [""]}, "stop string"),
    ],
)
def test_an_unknown_option_is_refused_before_anything_is_read(
    options: dict[str, Any], message: str
) -> None:
    pair = scripted_pair(BASE, writes("The"))
    cache = make_prompt_cache(pair)
    with pytest.raises(ValueError, match=message):
        answer(pair, prompt_cache=cache, **options)
    assert cache.base.tokens == cache.aligned.tokens == []
