"""Several guides at once: the oracle's mixture, its identities, and each guide's own vote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx import (
    BatchDecoder,
    Drafter,
    TraceWriter,
    batch_generate,
    build_prompt,
    generate,
    load_prompt_cache,
    make_prompt_cache,
    measure,
    read_example,
    save_prompt_cache,
    score,
    stream_generate,
    verify_trace,
)
from blendin_mlx.blend.methods import make_method
from blendin_mlx.drafting import pass_costs
from blendin_mlx.errors import NumericalError, PairError, PromptCacheError
from blendin_mlx.inspection import begun, look_at
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.reading.context import Context
from blendin_mlx.reading.guide import Guide
from blendin_mlx.reading.make_guide import make_guide
from blendin_mlx.roles import check_weights
from blendin_mlx.scoring.dial_map import Dial, DialMap
from blendin_mlx.step import Step
from blendin_mlx.tokens.answer_text import AnswerText
from oracle import MixedOracle, assert_follows
from small_pairs import small_model

QUESTION = "The sea is"
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("blendin", {"tau": 0.9, "lambda_": 1.0}),
    ("fixed", {"tau": 0.6, "alpha": 0.3}),
    ("nudging", {"tau": 0.7}),
    ("aligned", {}),
    ("ensemble", {}),
    ("kad", {}),
    ("confidence-bet", {"lambda_": 0.05}),
]


def mixed_pair(
    *guides: tuple[int, int], weights: tuple[float, ...] = (0.7, 0.3), base: int = 1
) -> Pair:
    """A base and guides, each with the first or the second tokenizer and a seed."""
    first, *others = (small_model(*guide) for guide in guides)
    return Pair(small_model(base, 1), first, others=tuple(others), weights=weights)


ONE_TOKENIZER = ((1, 2), (1, 3))
TWO_TOKENIZERS = ((1, 2), (2, 3))


def steps_of(pair: Pair, prompt: Any = QUESTION, tokens: int = 24, **options: Any) -> list[Step]:
    responses = stream_generate(pair, prompt, max_tokens=tokens, **options)
    return [piece.step for response in responses for piece in response.pieces]


@pytest.mark.parametrize("guides", [ONE_TOKENIZER, TWO_TOKENIZERS, ((2, 2), (2, 3), (1, 4))])
@pytest.mark.parametrize(("name", "options"), METHODS)
def test_every_method_follows_the_oracle(guides, name, options):
    weights = (0.2, 0.5, 0.3) if len(guides) == 3 else (0.7, 0.3)
    pair = mixed_pair(*guides, weights=weights)
    prompt = replace(build_prompt(pair, QUESTION), stops=())
    steps = steps_of(pair, prompt, 16, method=make_method(name, **options))
    oracle = MixedOracle(pair, name, **options)
    read = [list(ids) for ids in prompt.guide_ids]
    assert assert_follows(steps, oracle.decode(list(prompt.base.ids), read, 16)) >= 6  # type: ignore[arg-type]


@pytest.mark.parametrize("guides", [ONE_TOKENIZER, TWO_TOKENIZERS])
@pytest.mark.parametrize(("name", "options"), METHODS)
def test_scores_follow_the_oracle(guides, name, options):
    pair = mixed_pair(*guides)
    prompt = build_prompt(pair, QUESTION)
    found = score(pair, prompt, "The sea is wide.", method=make_method(name, **options))
    oracle = MixedOracle(pair, name, **options)
    read, ids = [list(one) for one in prompt.guide_ids], list(found.token_ids)
    expected = [
        float(np.log(oracle._scored(list(prompt.base.ids), read, ids[:n])[token]))  # type: ignore[arg-type]
        for n, token in enumerate(ids)
    ]
    assert found.log_probs == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_a_guide_of_weight_zero_has_no_say(name, options):
    method = make_method(name, **options)
    alone = Pair(small_model(1, 1), small_model(2, 2))
    for pair in (
        mixed_pair((2, 2), (1, 3), weights=(1.0, 0.0)),
        mixed_pair((1, 3), (2, 2), weights=(0.0, 2.5)),
    ):
        assert pair.others == ()
        assert steps_of(pair, method=method) == steps_of(alone, method=method)


@pytest.mark.parametrize(("name", "options"), METHODS)
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.25, 0.75)])
def test_two_copies_of_a_guide_are_that_guide(name, options, weights):
    method = make_method(name, **options)
    alone = Pair(small_model(1, 1), small_model(1, 2))
    twice = mixed_pair((1, 2), (1, 2), weights=weights)
    one, two = (steps_of(pair, method=method) for pair in (alone, twice))
    assert [step.id for step in one] == [step.id for step in two]
    for a, b in zip(one, two, strict=True):
        assert a.prob == pytest.approx(b.prob, abs=1e-6)
        assert (a.guidance is None) == (b.guidance is None)
        if a.guidance is not None and b.guidance is not None:
            assert a.guidance.alpha == pytest.approx(b.guidance.alpha, abs=1e-5)


def test_copies_with_another_tokenizer_give_its_targets():
    """Confidence is over the base's vocabulary there, so that of methods without one."""
    alone = Pair(small_model(1, 1), small_model(2, 2))
    twice = mixed_pair((2, 2), (2, 2))
    for method in (make_method("nudging", tau=0.7), make_method("ensemble")):
        one, two = (steps_of(pair, method=method) for pair in (alone, twice))
        assert [step.id for step in one] == [step.id for step in two]


@pytest.mark.parametrize("name", ["blendin", "fixed", "nudging", "ensemble", "kad"])
def test_guides_that_are_the_base_give_the_base(name):
    base = small_model(1, 1)
    pair = Pair(base, base, others=(base,), weights=(0.3, 0.7))
    prompt = build_prompt(pair, QUESTION)
    prompt = replace(prompt, aligned=prompt.base, others=(prompt.base,))
    ids = [step.id for step in steps_of(pair, prompt, method=name)]
    assert ids == [step.id for step in steps_of(pair, prompt, method="base")]


def test_each_guide_says_its_own_vote():
    pair = mixed_pair(*TWO_TOKENIZERS)
    prompt = build_prompt(pair, QUESTION)
    steps = steps_of(pair, prompt, method="ensemble")
    answer = AnswerText(pair.base.vocabulary)
    singles = [
        Guide(Context(model), projection, read)
        for model, projection, read in zip(
            pair.guides, pair.projections(), prompt.guide_ids, strict=True
        )
    ]
    compared = 0
    for step in steps:
        if step.guidance is not None:
            for guide, vote in zip(singles, step.guidance.votes, strict=True):
                advice = guide.advise(answer)
                assert vote.id == advice.token.item()
                assert vote.prob == pytest.approx(advice.confidence.item(), abs=1e-5)
                compared += 1
        if not step.is_stop:
            answer.append(step.id)
    assert compared >= 10


@pytest.mark.parametrize("guides", [ONE_TOKENIZER, TWO_TOKENIZERS])
def test_the_end_of_the_mixture_is_the_mean_of_the_ends(guides):
    pair = mixed_pair(*guides)
    prompt, cache = build_prompt(pair, QUESTION), make_prompt_cache(pair)
    guide = make_guide(pair, cache, make_method("ensemble"), "prefix", prompt.guide_ids)
    advice = guide.advise(AnswerText(pair.base.vocabulary))
    ends = [vote.stop_prob.item() for vote in advice.votes]
    assert ends[0] != pytest.approx(ends[1], rel=0.01)
    assert advice.stop_prob.item() == pytest.approx(0.7 * ends[0] + 0.3 * ends[1])
    stop = advice.probs[0, pair.base.vocabulary.stop].item()
    assert advice.stop_prob.item() == pytest.approx(stop)
    assert advice.probs.sum().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("place", [0, 1])
def test_an_answer_ends_where_a_guide_has_no_room(place):
    guides = [small_model(1, 2), small_model(2, 3)]
    pair = Pair(small_model(1, 1), guides[0], others=(guides[1],))
    room = len(build_prompt(pair, QUESTION).guide_ids[place]) + 5
    guides[place] = replace(guides[place], context=room)
    pair = Pair(small_model(1, 1), guides[0], others=(guides[1],))
    *_, last = stream_generate(pair, QUESTION, method="ensemble", max_tokens=40)
    assert last.finish_reason == "context"


def test_one_guide_names_no_votes():
    pair = Pair(small_model(1, 1), small_model(2, 2))
    steps = steps_of(pair, method="ensemble")
    assert all(step.guidance is None or step.guidance.votes == () for step in steps)


@pytest.mark.parametrize("draft", ["auto", "lookup", "guide"])
def test_drafts_do_not_change_the_text(draft):
    pair = mixed_pair(*TWO_TOKENIZERS)
    plain = steps_of(pair, tokens=40)
    drafted = steps_of(pair, tokens=40, draft=Drafter(draft, num_draft_tokens=3))
    assert [step.id for step in drafted] == [step.id for step in plain]


def test_batches_write_one_answer_after_the_other():
    pair = mixed_pair(*TWO_TOKENIZERS)
    questions = [QUESTION, "END", " blue"]
    assert "several guides" in str(BatchDecoder(pair).obstacle)
    alone = [generate(pair, question, max_tokens=12) for question in questions]
    assert batch_generate(pair, questions, max_tokens=12) == alone


class Lines(list[str]):
    """A file of a trace, in memory."""

    def write(self, text: str) -> None:
        self.append(text)

    def flush(self) -> None:
        pass


def recorded(pair: Pair, tokens: int = 12, **options: Any) -> list[dict[str, Any]]:
    """The records of an answer, as a trace has them."""
    import json

    from blendin_mlx.answer_statistics import describe_method

    lines = Lines()
    writer, prompt = TraceWriter(lines, pair), build_prompt(pair, QUESTION)
    method = make_method("blendin", tau=0.9)
    writer.run(prompt, {**describe_method(method), "stop_policy": "either", "seed": None})
    for response in stream_generate(pair, prompt, method=method, max_tokens=tokens, **options):
        for piece in response.pieces:
            writer.step(piece)
    writer.end(response.statistics.as_json())
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("candidates", [0, 3])
def test_a_trace_names_each_vote_and_is_verified(candidates):
    pair = mixed_pair(*TWO_TOKENIZERS[::-1])
    records = recorded(pair, candidates=candidates)
    assert records[0]["weights"] == [0.7, 0.3]
    assert list(records[0]["models"]) == ["base", "aligned", "aligned 2"]
    assert records[-1]["passes"]["aligned 2"] == records[-1]["passes"]["aligned"] > 0
    asked = [record for record in records if record.get("votes")]
    assert len(asked) == records[-1]["blend"]["interventions"] >= 3
    assert [vote["guide"] for vote in asked[0]["votes"]] == [one.name for one in pair.guides]
    for record in asked:  # ids of the base, and of each guide
        own = zip((pair.base, *pair.guides), (record["aligned"], *record["votes"]), strict=True)
        for model, said in own:
            written = model.vocabulary.token_bytes[said["id"]] or b""
            assert said["text"] == written.decode(errors="replace")
    assert verify_trace(pair, records) is None
    asked[1]["votes"][1]["prob"] += 0.01
    mismatch = verify_trace(pair, records)
    assert mismatch is not None
    assert mismatch.field == "votes.1.prob"


def test_a_trace_of_other_weights_is_not_confirmed():
    records = recorded(mixed_pair(*TWO_TOKENIZERS))
    assert verify_trace(mixed_pair(*TWO_TOKENIZERS, weights=(0.4, 0.6)), records) is not None


def test_a_position_shows_each_guide():
    pair = mixed_pair(*TWO_TOKENIZERS)
    prompt, method = build_prompt(pair, QUESTION), make_method("ensemble")
    steps = steps_of(pair, prompt, method=method, candidates=5)
    position = look_at(pair, prompt, [step.id for step in steps[:2]], method)
    guidance = steps[2].guidance
    assert guidance is not None
    assert [votes[0].id for votes in position.votes] == [vote.id for vote in guidance.votes]
    assert position.aligned[0].id == guidance.top.id
    assert position.aligned[0].id == steps[2].candidates.aligned[0].id  # type: ignore[union-attr]


def test_an_answer_begun_is_read_by_each_guide_in_its_tokens():
    pair = mixed_pair(*TWO_TOKENIZERS)
    prompt = build_prompt(pair, QUESTION)
    ids = pair.base.vocabulary.encode("The sea is wide")
    longer = begun(pair, prompt, ids)
    assert longer.others[0].ids[len(prompt.others[0].ids) :] == tuple(
        pair.guides[1].vocabulary.encode("The sea is wide")
    )
    assert longer.aligned.ids[len(prompt.aligned.ids) :] == tuple(ids)


def test_what_is_kept_belongs_to_the_guides(tmp_path):
    pair = mixed_pair(*TWO_TOKENIZERS)
    cache, file = make_prompt_cache(pair), tmp_path / "cache.safetensors"
    answer = generate(pair, QUESTION, max_tokens=8, prompt_cache=cache)
    save_prompt_cache(file, cache)
    again = generate(pair, QUESTION, max_tokens=8, prompt_cache=load_prompt_cache(file, pair))
    assert again == answer
    with pytest.raises(PromptCacheError, match="aligned 2"):
        load_prompt_cache(file, mixed_pair((1, 2), (2, 4)))
    with pytest.raises(PairError, match="other guides"):
        generate(pair, QUESTION, prompt_cache=make_prompt_cache(Pair(pair.base, pair.aligned)))


def test_readings_give_the_scores_of_the_dial():
    pair = mixed_pair(*TWO_TOKENIZERS)
    prompt = build_prompt(pair, QUESTION)
    reading = read_example(pair, prompt, "The sea is wide.")
    for dial in (Dial(tau=0.4), Dial(tau=1.0, alpha=0.5)):
        name = "blendin" if dial.alpha is None else "fixed"
        own = {"alpha": dial.alpha} if dial.alpha is not None else {"lambda_": dial.lambda_}
        method = make_method(name, tau=dial.tau, **own)
        total = score(pair, prompt, "The sea is wide.", method=method).total
        assert DialMap([reading]).totals([dial]).sum() == pytest.approx(total, abs=1e-3)


def damaged(model: LanguageModel) -> LanguageModel:
    """The model with a weight that is not a number."""
    import copy

    network = copy.deepcopy(model.network)
    network.lm_head.weight = network.lm_head.weight * float("nan")
    return replace(model, network=network, name="broken one")


@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_guide_is_named(place):
    guides = [small_model(1, 2), small_model(2, 3)]
    guides[place] = damaged(guides[place])
    pair = Pair(small_model(1, 1), guides[0], others=(guides[1],))
    with pytest.raises(NumericalError, match="broken one"):
        generate(pair, QUESTION, method="ensemble")
    with pytest.raises(NumericalError, match="broken one"):
        score(pair, QUESTION, "The sea", method="ensemble")
    with pytest.raises(NumericalError, match="broken one"):
        read_example(pair, build_prompt(pair, QUESTION), "The sea")


def test_asking_costs_a_pass_of_each_guide(monkeypatch):
    pair = mixed_pair(*TWO_TOKENIZERS)
    seconds = {id(pair.base): 1.0, id(pair.aligned): 2.0, id(pair.others[0]): 3.0}
    monkeypatch.setattr(pass_costs, "BUDGET_S", 0.0)
    monkeypatch.setattr(pass_costs, "_time_pass", lambda model, tokens: seconds[id(model)])
    assert measure(pair).guide == 5.0
    assert measure(Pair(pair.base, pair.base)).guide == 1.0


def test_proxy_tuning_takes_one_guide():
    pair = replace(mixed_pair(*ONE_TOKENIZER), reference=small_model(1, 4))
    with pytest.raises(PairError, match="several guides"):
        generate(pair, QUESTION, method="proxy-tuning")


WEIGHTS = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(WEIGHTS, min_size=1, max_size=4).filter(lambda ws: sum(ws) > 1e-6))
def test_weights_are_shares(weights):
    shares = check_weights(weights, len(weights))
    assert sum(shares) == pytest.approx(1)
    assert np.allclose(np.array(shares) * sum(weights), weights)


@pytest.mark.parametrize(
    "weights", [(1.0,), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0), (float("inf"), 1.0)]
)
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        mixed_pair(*ONE_TOKENIZER, weights=weights)


def test_weights_are_equal_unless_given():
    assert mixed_pair(*ONE_TOKENIZER, weights=()).weights == (0.5, 0.5)
