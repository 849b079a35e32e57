"""Figures of a guide: counted as the definitions say, compared fairly, told with their limits."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.diagnosis.measure import counted
from blendin_cli.diagnosis.page import page
from blendin_cli.diagnosis.plot import draw
from blendin_cli.diagnosis.ranking import ranked
from blendin_cli.diagnosis.report import FEWEST, cascades, interval, is_stable, rate
from blendin_cli.diagnosis.verdict import rows, verdict
from blendin_mlx.backend.mlx import mx
from browser import BROWSER, NEEDED, browser
from guide_reports import ONE, asked, guide, summarise
from scripted import STOP, always, answer, says, scripted_pair, writes

patterns = st.lists(st.lists(st.booleans(), min_size=1, max_size=20), min_size=1, max_size=9)


@given(asked=st.lists(st.booleans(), max_size=50))
def test_bursts_hold_all_interventions(asked):
    assert sum(cascades(asked)) == sum(asked)
    assert len(cascades(asked)) == sum(
        now and not before for before, now in zip([False, *asked], asked, strict=False)
    )


@given(asked=patterns)
def test_the_interval_is_within_what_the_answers_show(asked):
    answers = [replace(ONE, asked=tuple(one)) for one in asked]
    low, high = interval(answers)
    each = [rate([answer]) for answer in answers]
    assert min(each) <= low <= high <= max(each)
    assert min(each) <= rate(answers) <= max(each)


def test_equal_answers_are_stable_once_there_are_enough():
    assert not is_stable([ONE] * (FEWEST - 1))
    assert is_stable([ONE] * FEWEST)
    assert not is_stable([ONE, replace(ONE, asked=(False,) * 4)] * FEWEST)


class TestVerdict:
    @pytest.mark.parametrize(
        ("answers", "word"),
        [
            ([asked(4)], "a warning: "),
            ([asked(1)], "no warning: "),
            ([asked(4), asked(0)], "undecided: "),
        ],
    )
    def test_it_follows_the_paper_s_line(self, answers, word):
        lines = verdict(summarise("g", answers * 9))
        assert lines[0].startswith(word)
        assert "of the words" in lines[0]
        assert "prompts were not graded" in lines[-1]

    def test_few_prompts_allow_no_verdict(self):
        for often in (0, 10):
            (first, *_) = verdict(summarise("g", [asked(often)] * (FEWEST - 1)))
            assert first.startswith("undecided: too few prompts")

    @pytest.mark.parametrize(
        ("method", "tau", "why"),
        [("blendin", 0.3, "not for 0.3"), ("kad", None, "kad has no tau")],
    )
    def test_the_line_is_not_drawn_where_it_does_not_hold(self, method, tau, why):
        report = summarise("g", [asked(9)] * 9, method=method, tau=tau)
        (first, *_) = verdict(report)
        assert first.startswith("not judged: ")
        assert why in first
        assert "dashed" not in page([report])
        assert "dashed" in page([summarise("g", [asked(9)] * 9)])

    def test_one_prompt_says_and_two_say(self):
        assert verdict(summarise("g", [ONE]))[-1].startswith("the answers to 1 prompt were")
        assert verdict(summarise("g", [ONE] * 2))[-1].startswith("the answers to 2 prompts were")

    def test_lost_ends_bursts_and_runaways_are_named(self):
        bad = replace(ONE, asked=(True,) * 5, base_ends_lost=2, hit_limit=True)
        text = " ".join(verdict(summarise("g", [bad] * 9)))
        assert "bursts of 5.0 tokens" in text
        assert "the base wanted to end and the guide kept it" in text
        assert (
            "100 % of the answers ran into the length limit, against 0 % of the base's own" in text
        )


class TestEnds:
    """Counted from the steps of real answers of scripted models."""

    def count(self, base, guide, **options):
        pair = scripted_pair(base, guide)
        return counted(SimpleNamespace(pair=pair), answer(pair, max_tokens=4, **options).responses)

    def test_an_end_of_the_base_that_the_blend_talks_it_out_of_is_lost(self):
        base = says({"": {STOP: 0.3}}, otherwise={STOP: 0.9})
        told = self.count(base, says({"": {"Yes": 0.9}}, otherwise={STOP: 0.9}))
        assert (told.base_ends_lost, told.guide_ends_lost, told.guide_ended) == (1, 0, False)

    def test_an_end_that_the_dice_passed_over_is_not_lost_to_the_guide(self):
        def never_stop(logprobs):
            return mx.argmax(logprobs, axis=-1) * 0 + yes

        yes = scripted_pair(always({}), always({})).base.tokenizer.get_vocab()["Yes"]
        told = self.count(always({STOP: 0.9}), always({STOP: 0.9}), sampler=never_stop)
        assert (told.base_ends_lost, sum(told.asked)) == (0, 0)

    def test_an_end_that_the_guide_takes_back_is_lost(self):
        base = says({"": {"Yes": 0.9}, "Yes": {STOP: 0.9}}, otherwise={STOP: 0.9})
        guide = says({"Yes": {" sea": 0.9}}, otherwise={STOP: 0.9})
        assert self.count(base, guide, stop_policy="guide").base_ends_lost == 1
        assert self.count(base, guide, stop_policy="either").base_ends_lost == 0

    def test_a_turn_that_the_base_began_is_lost_where_the_guide_takes_it_back(self):
        base = writes("The", "\n\n", "# Query:", otherwise={STOP: 0.9})
        rows = {"The": {" sea": 0.9}, "The\n\n": {" sea": 0.9}}
        guide = says(rows, otherwise={STOP: 0.9})
        told = self.count(base, guide, stop_policy="guide")
        assert (told.base_ends_lost, told.guide_ended) == (1, False)

    def test_an_end_at_a_line_break_is_the_guide_s(self):
        base = writes("Yes", "\n\n", " sea", otherwise={STOP: 0.9})
        told = self.count(base, always({STOP: 0.9}))
        assert told.guide_ended
        assert not self.count(base, always({STOP: 0.9}), stop_policy="blend").guide_ended

    def test_an_end_that_wins_the_blend_against_the_base_is_the_guide_s(self):
        told = self.count(always({"Yes": 0.3}), always({STOP: 0.9}))
        assert told.guide_ended
        assert not self.count(always({STOP: 0.3}), always({STOP: 0.9})).guide_ended

    def test_figures_are_shown(self):
        ended = summarise("g", [replace(ONE, guide_ended=True), ONE])
        assert rows(ended)["made endings"] == "the guide ended 50 % of the answers"


REPORTS = [
    summarise("_often", [replace(ONE, asked=(True,) * 20)]),
    summarise("$<b>never$", [replace(ONE, asked=(False,))]),
]


class TestPageAndPicture:
    def test_a_page_holds_any_name_and_any_run_and_fetches_nothing(self):
        shown = page(ranked(REPORTS))
        assert "$&lt;b&gt;never$" in shown
        assert "<b>" not in shown
        assert not re.search(r"https?:|src=|@import|url\(", shown.replace("script-src", ""))
        assert "12 or more in a row: 1 ×" in shown

    def test_the_ranking_is_on_it(self):
        order = ranked([guide("B", asked(4)), guide("A", asked(2))])
        assert "A before B: asked at 20.0 points fewer tokens" in page(order)
        assert "Ranking" not in page(order[:1])

    def test_a_percent_sign_stays_with_its_number(self):
        text = page([summarise("g", [asked(4)] * 9)])
        assert "40.0\u00a0% of the tokens" in text
        assert not re.search(r"\d %", re.sub(r"<style>.*?</style>", "", text, flags=re.S))

    @pytest.mark.skipif(BROWSER is None, reason=NEEDED)
    def test_narrow_pages_do_not_overflow(self, tmp_path):
        file = tmp_path / "a.html"
        file.write_text(page(ranked([guide("B" * 60, asked(4)), guide("A", asked(2))])))
        with browser(tmp_path / "profile") as shown:
            shown.open(file, width=390)
            style = "getComputedStyle(document.querySelector('thead td')).borderTopWidth"
            assert shown.value(style) == "0px"
            assert shown.value("document.documentElement.scrollWidth <= innerWidth")
            texts = "document.querySelector('.bars').innerText.split(/\\s+/).slice(0, 4)"
            assert shown.value(texts) == ["1", "12", "2", "3"]  # twelve of two

    def test_any_name_can_be_drawn(self):
        pytest.importorskip("matplotlib", reason="needs the plot extra to draw")
        assert draw(REPORTS).startswith(b"\x89PNG")

    def test_bursts_have_whole_numbers_and_say_whose_they_are(self):
        pytest.importorskip("matplotlib", reason="needs the plot extra to draw")
        from matplotlib.figure import Figure

        from blendin_cli.diagnosis.plot import draw_bursts

        axes = Figure().subplots()
        draw_bursts(axes, [REPORTS[0], guide("B", asked(2))])
        ticks = [*axes.get_xticks(), *axes.get_yticks()]
        assert all(tick == int(tick) for tick in ticks)
        assert [text.get_text().strip() for text in axes.get_legend().get_texts()] == [
            "_often",
            "B",
        ]
        alone = Figure().subplots()
        draw_bursts(alone, REPORTS[:1])
        assert alone.get_legend() is None

    def test_without_matplotlib_one_line_names_the_extra(self, run, tiny, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        result = run("diagnose", *tiny, "--png", tmp_path / "a.png")
        assert result.code == 2
        assert "blendin-mlx[plot]" in result.error()
