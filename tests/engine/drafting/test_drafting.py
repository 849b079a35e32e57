"""Who proposes what, how long a draft is, and that drafting ends where it does not pay."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_speculation import (
    COMMON,
    DRAWN,
    Propose,
    assert_same,
    chaos,
    proposers,
    put_in,
    taking_back,
)

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.methods import make_method
from blendin_mlx.drafting import pass_costs
from blendin_mlx.drafting.drafter import PRIOR_ACCEPTANCE, Drafter, Record, Share
from blendin_mlx.drafting.pass_costs import LONGEST_DRAFT, Costs, Outlook, measure
from blendin_mlx.drafting.proposers import GuideProposer, LookupProposer
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import build_prompt
from blendin_mlx.reading.context import Context
from blendin_mlx.reading.guide import Guide
from blendin_mlx.tokens.answer_text import AnswerText, decode_complete
from scripted import always, answer, says, scripted_pair, scripted_tokenizer, writes
from tiny import tiny_model

# A second token adds a fifth of a pass, and so does each further one; the guide a third of one.
REALISTIC = Costs(base=((1, 1.0), (9, 2.6)), guide=0.33)
LENGTH = 200
THE, SEA = scripted_tokenizer().convert_tokens_to_ids(["The", "Ġsea"])
SHARES = st.floats(0, 0.999)
COSTS = st.builds(
    lambda first, more, *guide: Costs(
        ((1, first), (5, first + more), (9, first + 3 * more)), *guide
    ),
    *(st.floats(0.01, 9), st.floats(0, 9), st.floats(0.01, 9), st.booleans()),
)


class TestCosts:
    @given(COSTS, st.integers(0, 15))
    def test_a_pass_lies_on_the_line_of_its_neighbours(self, costs: Costs, count: int) -> None:
        (_, first), (_, middle), (_, last) = costs.base
        low, high, since = (first, middle, count) if count <= 4 else (middle, last, count - 4)
        seconds = low + (high - low) * since / 4  # on and on beyond the last
        assert costs.verify(count) * first == pytest.approx(seconds)
        assert costs.ask * first == pytest.approx(costs.guide)
        hidden = first if costs.meanwhile else 0.0
        assert costs.first * first == pytest.approx(max(0.0, costs.guide - hidden))
        assert Costs(costs.base[:1], 1.0).verify(count) == pytest.approx(count + 1)

    @pytest.mark.parametrize("base", [[], [(1, 0.0)], [(1, 1.0), (5, -1.0)], [(2, 1.0)]])
    def test_what_is_no_time_is_refused(self, base: Any) -> None:
        for times, guide in ((base, 1.0), ([(1, 1.0)], 0.0)):
            with pytest.raises(ValueError, match="costs are times above 0"):
                Costs(tuple(times), guide)

    @pytest.mark.parametrize("budget", [0.0, 0.05])
    def test_a_pair_is_measured(self, budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pass_costs, "BUDGET_S", budget)
        pair = scripted_pair(says({}), says({}), tokenizers=2)
        for measured in (measure(pair), measure(Pair(pair.base, pair.base))):
            tokens = [count for count, _ in measured.base]
            assert (tokens[0], tokens[-1]) == (1, LONGEST_DRAFT + 1)
            assert min(*(seconds for _, seconds in measured.base), measured.guide) > 0

    def test_passes_that_compile_kernels_do_not_count(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair, timed = scripted_pair(says({}), says({}), tokenizers=2), Counter[tuple[int, int]]()

        def seconds(model: LanguageModel, tokens: int) -> float:
            timed[id(model), tokens] += 1
            return 2.0 if timed[id(model), tokens] == 1 else 0.1

        monkeypatch.setattr(pass_costs, "BUDGET_S", 0.0)
        monkeypatch.setattr(pass_costs, "_time_pass", seconds)
        measured = measure(pair)
        assert {time for _, time in measured.base} == {measured.guide} == {0.1}


class TestOutlook:
    @given(COSTS, SHARES, SHARES, st.booleans())
    def test_the_best_length_is_the_fastest(
        self, costs: Costs, acceptance: float, asked: float, by_guide: bool
    ) -> None:
        outlook = Outlook(acceptance, asked, by_guide)
        speeds = [outlook.speed(costs, count) for count in range(LONGEST_DRAFT + 1)]
        assert speeds[0] == pytest.approx(1 / (1 + asked * costs.first))
        assert speeds[outlook.best_length(costs)] == max(speeds)
        assert outlook.best_length(costs, longest=0) == 0
        assert Outlook(0.0, asked, by_guide).best_length(costs) == 0

    @given(COSTS, SHARES)
    def test_a_guide_as_dear_as_the_base_is_no_help_to_a_sure_one(
        self, costs: Costs, acceptance: float
    ) -> None:
        dear = Costs(costs.base, guide=costs.base[0][1])
        assert Outlook(acceptance, 0.0, by_guide=True).best_length(dear) == 0
        # Where it would be asked anyway, its draft costs nothing.
        assert Outlook(0.95, 1.0, by_guide=True).best_length(REALISTIC) > 0

    def test_a_guide_that_reads_meanwhile_would_lose_that_by_drafting(self) -> None:
        guided = Outlook(0.8, 1.0, by_guide=True)
        assert guided.best_length(Costs(REALISTIC.base, guide=1.0)) > 0
        assert guided.best_length(Costs(REALISTIC.base, guide=1.0, meanwhile=True)) == 0


def wanted(record: Record, best: int, hopeful: bool) -> int:
    """The length of draft at one more position."""
    record.consider(best)
    return record.length(best, hopeful)


class TestDrafter:
    @pytest.mark.parametrize("count", [-1, 0, 17])
    def test_options_out_of_range_are_refused(self, count: int) -> None:
        with pytest.raises(ValueError, match=f"num_draft_tokens must be .* 1 and 16, not {count}"):
            Drafter("lookup", count)
        with pytest.raises(ValueError, match=r"draft must be one of .*, off, not 'oracle'"):
            Drafter("oracle")  # type: ignore[arg-type]

    @given(st.lists(st.booleans(), max_size=99), SHARES)
    def test_a_share_follows_what_it_counts(self, hits: list[bool], prior: float) -> None:
        share = Share(prior)
        for hit in [*hits, *99 * [True]]:
            before = share.value
            share.add(hit)
            assert 0 <= before <= share.value <= 1 if hit else 0 <= share.value <= before
        assert share.value > 0.98

    def test_one_that_does_not_pay_is_tried_now_and_then_more_and_more_seldom(self) -> None:
        record, wait = Record(), Record().patience
        tried = []
        for n in range(1, 8 * wait):
            if wanted(record, 0, hopeful=True):
                tried.append(n)
                record.used()
        assert tried == [wait, 3 * wait, 7 * wait]
        assert (wanted(record, 5, hopeful=True), record.is_off) == (5, False)
        record.used()
        assert [wanted(record, 0, hopeful=True) for _ in range(wait)][-1] == 1
        assert not any(wanted(record, 0, hopeful=False) for _ in range(9 * wait))

    def test_a_try_that_found_nothing_is_made_again_at_once(self) -> None:
        record, wait = Record(), Record().patience
        lengths = [wanted(record, 0, hopeful=True) for _ in range(2 * wait)]
        assert lengths == [0] * (wait - 1) + [1] * (wait + 1)


class TestSwitching:
    """Long answers with a proposer whose length follows how it does."""

    def run(self, drafter: Drafter, propose: Propose) -> int:
        """Passes of an answer of one word over and over, which is the same as without drafts."""
        pair = scripted_pair(always({" sea": 0.9}), always({" sky": 0.9}))
        with pytest.MonkeyPatch.context() as patch:
            put_in(patch, propose)
            got = answer(pair, max_tokens=LENGTH, draft=drafter)
        assert_same(got, answer(pair, max_tokens=LENGTH))
        return got.statistics.base.passes

    def test_one_that_is_never_right_is_switched_off_and_stays_so(self) -> None:
        drafter = Drafter("lookup", costs=REALISTIC)
        self.run(drafter, lambda ids, count: count * [THE])
        assert (drafter.accepted, drafter.records["lookup"].is_off) == (0, True)
        assert "does not pay (lookup: " in (drafter.off_because or "")
        assert (before := drafter.proposed) < 40
        self.run(drafter, lambda ids, count: count * [THE])  # what was learnt is kept
        assert drafter.proposed - before <= 2

    def test_one_that_is_always_right_gets_the_longest_draft(self) -> None:
        drafter = Drafter("lookup", costs=REALISTIC)
        assert self.run(drafter, lambda ids, count: count * [SEA]) < LENGTH / LONGEST_DRAFT + 5
        assert drafter.length("lookup") == LONGEST_DRAFT
        assert drafter.accepted == drafter.proposed
        assert (drafter.records["lookup"].is_off, drafter.off_because) == (False, None)

    def test_after_a_bad_stretch_it_is_tried_again(self) -> None:
        drafter, tried = Drafter("lookup", costs=REALISTIC), []

        def propose(ids: list[int], count: int) -> list[int]:
            tried.append(len(ids))
            return count * [THE if len(ids) < 40 else SEA]

        self.run(drafter, propose)
        assert max(after - before for before, after in pairwise(tried)) >= Record().patience
        assert drafter.length("lookup") == LONGEST_DRAFT

    def test_one_that_pays_but_finds_nothing_is_not_called_off(self) -> None:
        drafter = Drafter("lookup", costs=REALISTIC)
        drafter.off_because = "it did not pay"
        self.run(drafter, lambda ids, count: [])
        assert drafter.off_because is None

    def test_a_guide_as_dear_as_the_base_is_not_asked_to_draft(self) -> None:
        drafter = Drafter("guide", costs=Costs(REALISTIC.base, guide=1.0))
        self.run(drafter, lambda ids, count: [])
        assert drafter.proposed == 0
        assert "guide: 70% of its tokens would do, at 1.00 passes" in (drafter.off_because or "")


def written(pair: Pair, tokens: Sequence[int]) -> AnswerText:
    """An answer of these tokens of the base."""
    text = AnswerText(pair.base.vocabulary)
    for token in tokens:
        text.append(token)
    return text


def guide_of(pair: Pair) -> Guide:
    """The guide, with nothing read yet."""
    prompt = build_prompt(pair, "Hi").aligned.ids
    return Guide(Context(pair.aligned), pair.projection("prefix"), prompt)


class TestLookup:
    PAIR = scripted_pair(says({}), says({}))
    TOKENS = st.lists(st.integers(20, 23), max_size=14)

    def followed(self, tokens: list[int], count: int) -> list[int]:
        ends = ((end, n) for n in (3, 2) for end in range(len(tokens) - 1, n - 1, -1))
        same = (end for end, n in ends if tokens[end - n : end] == tokens[-n:])
        return tokens[(end := next(same, len(tokens))) : end + count]

    @given(TOKENS, TOKENS, st.integers(1, 5))
    def test_it_proposes_what_followed_where_the_last_tokens_were_last_seen(
        self, prompt: list[int], tokens: list[int], count: int
    ) -> None:
        growing = LookupProposer(prompt)
        for n in range(len(tokens) + 1):
            found = growing.propose(written(self.PAIR, tokens[:n]), count)
            assert found == self.followed(prompt + tokens[:n], count)
        assert LookupProposer(prompt).propose(written(self.PAIR, tokens), count) == found

    @given(TOKENS, st.lists(st.tuples(st.integers(0, 14), TOKENS), max_size=5))
    def test_after_a_rewind_it_proposes_as_if_the_rest_had_never_been(
        self, prompt: list[int], turns: list[tuple[int, list[int]]]
    ) -> None:
        proposer, text = LookupProposer(prompt), written(self.PAIR, [])
        for length, more in turns:
            text.rewind(length)
            for token in more:
                text.append(token)
                assert proposer.propose(text, 4) == self.followed([*prompt, *text.ids], 4)


class TestGuideProposer:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**20), st.integers(1, 8), st.sampled_from([1, 2]))
    def test_it_proposes_the_guide_s_greedy_text_up_to_its_stop(
        self, seed: int, count: int, tokenizers: int
    ) -> None:
        pair = scripted_pair(says({}), chaos(seed, COMMON), tokenizers=tokenizers)
        base, aligned = pair.base.vocabulary, pair.aligned.vocabulary
        text, guide = written(pair, base.encode("The")), guide_of(pair)
        read, greedy = guide.sequence(text), []
        while len(greedy) < count:
            token = int(pair.aligned.network._logits([*read, *greedy]).argmax())
            if token in pair.aligned.stop_ids:
                break
            greedy.append(token)
        found = GuideProposer(guide, base).propose(text, count)
        if tokenizers == 1:
            assert found == greedy
        else:
            complete, _ = decode_complete(aligned.bytes_of(greedy))
            assert found == base.encode(complete)[:count]
            assert complete.encode().startswith(base.bytes_of(found))
        guide.settle(text)
        assert guide.context.tokens == read

    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_of_another_tokenizer_it_proposes_no_part_of_a_character(self, tokenizers: int) -> None:
        wave = writes(*(bytes([byte]) for byte in "🌊".encode()))
        pair = scripted_pair(says({}), wave, tokenizers=tokenizers)
        proposer = GuideProposer(guide_of(pair), pair.base.vocabulary)
        whole = pair.base.vocabulary.encode("🌊")
        assert proposer.propose(written(pair, []), 4) == whole
        assert proposer.propose(written(pair, []), 3) == ([] if tokenizers == 2 else whole[:3])
        within = written(pair, whole[:1])
        assert proposer.propose(within, 8) == ([] if tokenizers == 2 else whole[1:])

    @pytest.mark.parametrize("room", [0, 1, 3])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_it_reads_nothing_beyond_its_context(self, room: int, tokenizers: int) -> None:
        pair = scripted_pair(says({}), always({b"a": 0.9}), tokenizers=tokenizers)
        guide, text = guide_of(pair), written(pair, pair.base.vocabulary.encode("The"))
        limit = len(guide.sequence(text)) + room
        pair.aligned.config["max_position_embeddings"] = limit
        GuideProposer(guide, pair.base.vocabulary).propose(text, 8)
        assert len(guide.context.tokens) <= limit

    @pytest.mark.parametrize("room", range(7))
    def test_it_leaves_its_window_as_it_can_be_rewound(self, room: int) -> None:
        guide = guide_of(scripted_pair(says({}), says({})))
        window = len(guide.sequence(written(TestLookup.PAIR, []))) + room
        model = tiny_model(scripted_tokenizer(), "gemma3_text", sliding_window=window)
        guide.context = Context(model)
        GuideProposer(guide, model.vocabulary).propose(written(TestLookup.PAIR, []), 4)
        assert (len(guide.context.tokens) > 0) == (room > 4)
        assert guide.context.can_trim()


def test_after_a_take_back_the_draft_is_neither_hit_nor_miss() -> None:
    pair = taking_back()
    prompt, drafter = build_prompt(pair, "Hi"), Drafter("lookup", 8)
    right, hits = pair.base.vocabulary.encode("The sea\n\n# Query:"), Share(PRIOR_ACCEPTANCE)
    with pytest.MonkeyPatch.context() as patch:
        put_in(patch, lambda ids, n: [] if ids else [*right, THE])
        got = answer(pair, prompt, stop_policy="guide", draft=drafter)
    assert got.statistics.text.startswith("The sea\n\nY")
    for _ in right:
        hits.add(True)
    assert (drafter.accepted, drafter.records["lookup"].acceptance) == (len(right), hits)


SMALL = {"llama": {}, "mamba2": {}, "lfm2": {"num_attention_heads": 1}}
SMALL["gemma3_text"] = {"sliding_window": 16}  # full before the answer begins


@pytest.mark.parametrize("draft", ["lookup", "guide"])
@pytest.mark.parametrize("base", SMALL)
@pytest.mark.parametrize("aligned", SMALL)
def test_where_a_cache_cannot_be_rewound_nothing_is_drafted(
    draft: Any, base: str, aligned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, sharp = scripted_tokenizer(), {"sharpness": 2.0}
    one, other = ({**SMALL[name], **sharp} for name in (base, aligned))
    pair = Pair(tiny_model(tokenizer, base, **one), tiny_model(tokenizer, aligned, seed=1, **other))
    prompt, drafter = build_prompt(pair, "How wide is the sea?"), Drafter(draft, 4)
    plain = answer(pair, prompt, max_tokens=12)
    put_in(monkeypatch, proposers(pair, prompt, plain.statistics.token_ids)["half"])
    got = answer(pair, prompt, max_tokens=12, draft=drafter)
    assert got.statistics.token_ids == plain.statistics.token_ids
    assert got.statistics.base.rereads == got.statistics.aligned.rereads == 0
    can_draft = base == "llama" and (draft == "lookup" or aligned == "llama")
    assert (drafter.proposed > 0, drafter.off_because is None) == (can_draft, can_draft)


@pytest.mark.parametrize("who", ["base", "aligned"])
@pytest.mark.parametrize("room", range(6))
def test_a_window_is_never_filled_by_a_draft(who: str, room: int) -> None:
    """A full window could only go back by reading again, for a draft that did not hold."""
    tokenizer, words = scripted_tokenizer(), build_prompt(TestLookup.PAIR, "How wide is the sea?")
    window = len(getattr(words, who).ids) + 5 + room
    kinds = {"base": "llama", "aligned": "llama", who: "gemma3_text"}
    sizes = {name: {"sharpness": 2.0} for name in kinds}
    sizes[who]["sliding_window"] = window
    pair = Pair(
        tiny_model(tokenizer, kinds["base"], **sizes["base"]),
        tiny_model(tokenizer, kinds["aligned"], seed=1, **sizes["aligned"]),
    )
    drafter = Drafter("guide", 4)
    got = answer(pair, build_prompt(pair, "How wide is the sea?"), max_tokens=16, draft=drafter)
    assert drafter.proposed > drafter.accepted
    assert got.statistics.base.rereads == got.statistics.aligned.rereads == 0


FIRST = ({"The": 0.5, "Yes": 0.3, ".": 0.2}, {"The": 0.2, "Yes": 0.3, ".": 0.5})
THEN = ({" sea": 0.8, " sky": 0.2}, {" sea": 0.3, " sky": 0.7})
CRITICAL = 25.74  # the 99.99 % quantile of chi-square for 5 degrees of freedom


@pytest.mark.parametrize("draft", ["lookup", "guide"])
def test_two_drawn_tokens_follow_the_exact_distribution(
    draft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is half of each model's distribution; some drafts are likely, some are not."""
    rows = zip(FIRST, THEN, strict=True)
    pair = scripted_pair(*(lambda w, a=a, b=b: b if w else a for a, b in rows))
    one, two = ({t: (p + q[t]) / 2 for t, p in b.items()} for b, q in (FIRST, THEN))
    exact = {a + b: one[a] * two[b] for a, b in product(one, two)}
    ids = [scripted_tokenizer().encode(text) for text in ("The sea", "Yes sky")]
    guesses = random.Random(5)
    put_in(monkeypatch, lambda done, n: guesses.choice(ids)[len(done) :][:n])
    drafter, most = Drafter(draft, 3), 400
    options = {"method": make_method("fixed", tau=1.0), "max_tokens": 2, "draft": drafter}
    options |= {**DRAWN, "prompt_cache": make_prompt_cache(pair)}
    prompt = build_prompt(pair, "Hi")
    mx.random.seed(7)
    texts = [answer(pair, prompt, **options).text for _ in range(most)]
    assert min(drafter.accepted, drafter.proposed - drafter.accepted) > most / 10
    apart = []
    for n in (25, 100, most):
        counts = Counter(texts[:n])
        assert set(counts) <= set(exact)
        apart.append(sum(abs(counts[text] / n - p) for text, p in exact.items()) / 2)
        assert apart[-1] < math.sqrt(len(exact) / n)
    assert apart[-1] < apart[0]
    assert sum((counts[text] - n * p) ** 2 / (n * p) for text, p in exact.items()) < CRITICAL
