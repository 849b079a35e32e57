"""Guides in order: by what the same prompts tell, and never by what they do not."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.diagnosis.bootstrap import difference
from blendin_cli.diagnosis.ranking import as_json, compared, comparisons, ranked
from blendin_cli.diagnosis.report import FEWEST
from guide_reports import asked, guide, summarise

NOISY = (asked(3), asked(5), asked(2), asked(4))
SHIFTED = (asked(4), asked(4), asked(3), asked(3))  # the same on average


def test_a_difference_on_the_same_prompts_is_real_though_the_intervals_overlap():
    less = guide("A", *NOISY)
    more = guide("B", *(asked(sum(one.asked) + 1) for one in NOISY))
    assert less.high > more.low
    assert [one.guide for one in ranked([more, less])] == ["A", "B"]
    (told,) = comparisons(ranked([more, less]))
    assert told.text == "A before B: asked at 10.0 points fewer tokens (10.0 to 10.0)"


def test_where_rates_are_alike_lost_ends_decide():
    """Though the other is asked a little less."""
    loser = guide("B", *(replace(one, base_ends_lost=1) for one in (asked(3), *SHIFTED[1:])))
    keeper = guide("A", *NOISY)
    assert loser.rate < keeper.rate
    assert [one.guide for one in ranked([loser, keeper])] == ["A", "B"]
    (told,) = comparisons(ranked([loser, keeper]))
    assert told.decided_by == "base_ends_lost"
    assert re.fullmatch(
        r"A and B: no significant difference in rates \(-\d\.\d to \d\.\d points\); "
        "A misses fewer endings of the base, 0 % against 100 %",
        told.text,
    )


def test_then_the_length_limit_decides():
    long = guide("B", *(replace(one, hit_limit=True) for one in SHIFTED))
    (told,) = comparisons(ranked([long, guide("A", *NOISY)]))
    assert told.decided_by == "hit_limit"
    assert "A runs into the length limit less often, 0 % against 100 %" in told.text


def test_undecided_rankings_say_so():
    one_lost = [replace(NOISY[0], base_ends_lost=1), *NOISY[1:], *NOISY, *NOISY]
    order = ranked([summarise("B", one_lost), guide("A", *SHIFTED)])
    assert order[0].rate == order[1].rate
    (told,) = comparisons(order)
    assert told.decided_by is None
    assert told.text.endswith("missed endings or answers at the length limit")


def test_few_prompts_give_no_ranking():
    few = [summarise(name, [asked(often)] * (FEWEST - 1)) for name, often in (("A", 9), ("B", 1))]
    (told,) = comparisons(ranked(few))
    assert told.decided_by is None
    assert told.text == (
        f"B and A: {FEWEST - 1} prompts cannot tell them apart (at least {FEWEST} are needed); "
        "B is asked at 80.0 points fewer tokens"
    )


def test_only_prompts_that_both_answered_are_compared():
    less = summarise("A", [asked(1)] * 10)
    more = summarise("B", [asked(2)] * 10 + [asked(0)] * 90)
    (told,) = comparisons(ranked([more, less]))
    assert told.text == (
        "A before B: asked at 10.0 points fewer tokens (10.0 to 10.0) "
        "(over the 10 prompts that both answered)"
    )


def test_three_that_beat_each_other_in_a_ring_are_in_one_order_all_the_same():
    """A is asked less than B; B keeps more ends than C, and C more than A, at rates alike."""
    ring = [
        guide("A", asked(3, base_ends_lost=1)),
        guide("B", asked(4)),
        guide("C", *(asked(n, base_ends_lost=n % 2) for n in (0, 7, 1, 6))),
    ]
    beaten = [compared(one, other) for one, other in zip(ring, [*ring[1:], ring[0]], strict=True)]
    assert [one.decided_by for one in beaten] == ["rate", "base_ends_lost", "base_ends_lost"]
    assert not any(one.is_reversed for one in beaten)
    orders = {tuple(one.guide for one in ranked(given)) for given in permutations(ring)}
    assert orders == {("C", "A", "B")}
    assert not any(one.is_reversed for one in comparisons(ranked(ring)))


@given(pairs=st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=1, max_size=9))
def test_swapping_two_guides_swaps_the_sign_and_nothing_else(pairs):
    one, other = ([(n, 9) for n in column] for column in zip(*pairs, strict=True))
    there, back = difference(one, other), difference(other, one)
    assert (there.value, there.low, there.high) == (-back.value, -back.high, -back.low)


def test_in_json_each_says_how_it_stands_to_the_next():
    first, last = as_json(ranked([guide("B", asked(4)), guide("A", asked(2))]))
    assert [first["guide"], first["rank"], last["rank"]] == ["A", 1, 2]
    assert first["against_next"]["decided_by"] == "rate"
    assert first["against_next"]["differences"]["rate"]["low"] == pytest.approx(0.2)
    assert first["verdict"]
    assert last["against_next"] is None


def test_a_guide_against_itself_is_no_difference():
    same = guide("A", *NOISY)
    assert compared(same, same).decided_by is None
