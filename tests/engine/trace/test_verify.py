"""A trace follows from its models, and no tampered value passes."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from blendin_mlx.answer_statistics import describe_method
from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.method import Method
from blendin_mlx.blend.methods import METHODS, make_method
from blendin_mlx.blend.sampling import LogitsProcessor, Sampler, repetition_penalty
from blendin_mlx.errors import TraceError
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompts import build_prompt
from blendin_mlx.trace.records import TraceWriter
from blendin_mlx.trace.verify import verify_trace
from scripted import STOP, says, scripted_model, scripted_pair, writes
from small_pairs import small_pair

Records = list[dict[str, Any]]


def record(
    pair: Pair,
    question: str,
    max_tokens: int,
    policy: str = "either",
    name: str = "blendin",
    sampler: Sampler | None = None,
    kv_bits: int | None = None,
    penalty: float | None = None,
    processors: Sequence[LogitsProcessor] = (),
    method: Method | None = None,
) -> Records:
    """The trace of one answer."""
    file = io.StringIO()
    writer = TraceWriter(file, pair)
    prompt = build_prompt(pair, question)
    method = method or make_method(name)
    settings = {"stop_policy": policy, "temp": float(sampler is not None), "kv_bits": kv_bits}
    settings |= {"repetition_penalty": penalty, "repetition_context_size": 30}
    writer.run(prompt, {**describe_method(method), **settings})
    responses = stream_generate(
        pair,
        prompt,
        method=method,
        max_tokens=max_tokens,
        stop_policy=policy,
        candidates=3,
        kv_bits=kv_bits,
        sampler=sampler,
        logits_processors=[*repetition_penalty(penalty, 30), *processors],
    )
    for response in responses:
        for piece in response.pieces:
            writer.step(piece)
    writer.end(response.statistics.as_json())
    return [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.fixture(scope="module")
def pair(tiny_pair: Callable[..., Pair]) -> Pair:
    return tiny_pair("qwen3", "llama3_1", 2.5)


@pytest.fixture(scope="module")
def trace(pair: Pair) -> Records:
    records = record(pair, "Name a colour.", 24)
    sources = {step["source"] for step in records if step["type"] == "step"}
    assert sources >= {"base", "blend"}, "the trace must show both kinds of step"
    return records


def test_an_untouched_trace_follows(pair: Pair, trace: Records) -> None:
    assert verify_trace(pair, trace) is None


@pytest.mark.parametrize("kv_bits", [4, 8])
def test_a_trace_with_quantized_caches_follows(
    tiny_pair: Callable[..., Pair], kv_bits: int
) -> None:
    """Read in other passes, they round otherwise; what is no rounding is still found out."""
    pair = tiny_pair("qwen3", "llama3_1", 2.5)
    records = record(pair, "Name a colour.", 40, kv_bits=kv_bits)
    assert verify_trace(pair, records) is None
    assert verify_trace(pair, tampered(records, first(records, "blend"), "aligned.id")) is not None
    changed = copy.deepcopy(records)
    changed[first(records, "blend")]["alpha"] += 0.1
    assert verify_trace(pair, changed) is not None


def second_choice(after: int) -> LogitsProcessor:
    """Rule out the top token after so many tokens, and nowhere else."""

    def ruled_out(tokens: mx.array, scores: mx.array) -> mx.array:
        return scores if len(tokens) != after else mx.where(scores == scores.max(), -1e9, scores)

    return ruled_out


@pytest.mark.parametrize("penalty", [0.7, 1.5, 5.0])
@pytest.mark.parametrize("policy", ["either", "guide"])
def test_a_trace_with_a_penalty_follows_and_one_other_token_does_not(
    penalty: float, policy: str
) -> None:
    pair = small_pair()
    records = record(pair, "Name a colour.", 24, policy, penalty=penalty)
    assert verify_trace(pair, records) is None
    for source in ("base", "blend"):
        index = first(records, source) - 1
        after = len(records[0]["base_prompt"]["ids"]) + index
        changed = record(
            pair, "Name a colour.", 24, policy, penalty=penalty, processors=[second_choice(after)]
        )
        assert changed[1 + index]["id"] != records[1 + index]["id"]
        found = verify_trace(pair, changed)
        assert found is not None
        assert found.index == index


def test_an_end_that_a_draw_went_against_follows() -> None:
    """Under the policy `base` its top choice STOP ends the answer, whatever was drawn there."""
    rows = {"": {"The": 0.6, " sea": 0.3}, " sea": {STOP: 0.6, " is": 0.3, "The": 0.05}}
    pair = Pair(scripted_model(says(rows), "base"), scripted_model(says(rows), "guide"))
    records = record(pair, "Hi", 9, "base", sampler=lambda scores: mx.argsort(-scores)[..., 1])
    assert [step["id"] for step in records[1:-1]][1:] == [pair.base.vocabulary.stop]
    assert verify_trace(pair, records) is None


def test_an_end_that_the_guide_puts_in_place_of_a_turn_follows() -> None:
    """Under the policy `guide` a turn that the base begins is undone; the guide may end there."""
    base = writes("The", "\n\n", "# Query:", "\n\n")
    guide = says({"The\n\n": {STOP: 0.9}}, otherwise={" sea": 0.9})
    pair = scripted_pair(base, guide)
    records = record(pair, "Hi", 9, "guide")
    last = records[-2]
    assert (last["source"], last["stop_check"], last["base"]["text"]) == (
        "aligned",
        True,
        "# Query:",
    )
    assert verify_trace(pair, records) is None
    assert verify_trace(pair, tampered(records, len(records) - 2, "stop_prob")) is not None


@pytest.mark.parametrize("length", [5, 9, 13])
def test_an_answer_that_is_cut_inside_a_character_follows(
    tiny_pair: Callable[..., Pair], length: int
) -> None:
    """Random networks write half characters all the time."""
    pair = tiny_pair("gemma3", "qwen3", 2.5)
    records = record(pair, "Name a colour.", length)
    assert verify_trace(pair, records) is None
    assert records[-1]["finish_reason"] == "length"


def under_older_rules(records: Records) -> Records:
    """The same trace as an earlier version wrote it."""
    changed = copy.deepcopy(records)
    del changed[0]["rules"]
    changed[0]["version"] = "0.0.9"
    return changed


def test_a_trace_under_older_rules_of_two_tokenizers_says_so(pair: Pair, trace: Records) -> None:
    with pytest.raises(TraceError, match=r"written by version 0.0.9 under rules 1, this .* viewed"):
        verify_trace(pair, under_older_rules(trace))


def test_a_trace_under_older_rules_of_one_tokenizer_is_verified(
    tiny_pair: Callable[..., Pair],
) -> None:
    pair = tiny_pair("qwen3", "qwen3", 2.5)
    assert verify_trace(pair, under_older_rules(record(pair, "Name a colour.", 10))) is None


def test_a_trace_of_the_demo_pair_follows(demo_pair: Pair) -> None:
    assert verify_trace(demo_pair, record(demo_pair, "Why is the sky blue?", 8, "guide")) is None


@pytest.mark.parametrize("name", METHODS)
def test_a_trace_of_every_method_follows(tiny_pair: Callable[..., Pair], name: str) -> None:
    pair = tiny_pair("qwen3", "llama3_1", 2.5)
    pair.reference = tiny_pair("llama3_1", "llama3_1", 2.5).base
    records = record(pair, "Name a colour.", 10, name=name)
    assert records[0]["models"]["reference"]["name"] == pair.reference.name
    assert verify_trace(pair, records) is None
    # In tiny models the base finds no token of the guide's likely: blendin's bonus shows nowhere.
    for letter in {"lambda", "beta"} & set(records[0]) if name != "blendin" else ():
        changed = copy.deepcopy(records)
        changed[0][letter] = 0.9
        interventions = any(one.get("alpha") is not None for one in records)
        assert (verify_trace(pair, changed) is not None) == interventions


@pytest.mark.parametrize("gate", ["entropy", "margin"])
def test_a_trace_of_every_gate_follows(pair: Pair, gate: str) -> None:
    method = make_method("nudging", gate=gate, tau=0.1)
    records = record(pair, "Name a colour.", 20, method=method)
    assert records[0]["gate"] == gate
    assert verify_trace(pair, records) is None
    opened = [step for step in records if step.get("alpha") is not None]
    assert opened
    assert all(step["gate_margin"] < 0 for step in opened)
    mismatch = verify_trace(pair, [{**records[0], "gate": "confidence"}, *records[1:]])
    assert mismatch is not None
    del records[0]["gate"]  # as older versions wrote it: that is the confidence
    assert verify_trace(pair, records) == mismatch


@pytest.mark.parametrize("role", ["base", "aligned", "blend"])
def test_candidates_are_those_of_each_distribution(pair: Pair, trace: Records, role: str) -> None:
    step = trace[first(trace, "blend")]
    probs = [one["prob"] for one in step["candidates"][role]]
    assert len(probs) == 3
    assert probs == sorted(probs, reverse=True)
    top = {"base": step["base"]["id"], "aligned": step["aligned"]["id"], "blend": step["id"]}
    assert step["candidates"][role][0]["id"] == top[role]
    for name, value in (("prob", probs[1] - 0.01), ("id", step["candidates"][role][2]["id"])):
        changed = copy.deepcopy(trace)
        changed[first(trace, "blend")]["candidates"][role][1][name] = value
        mismatch = verify_trace(pair, changed)
        assert mismatch is not None
        assert mismatch.field.startswith(f"candidates.{role}.1")
    changed = copy.deepcopy(trace)
    changed[first(trace, "blend")]["candidates"][role] = []
    assert verify_trace(pair, changed) is not None


def test_a_guide_that_was_not_asked_has_no_candidates(pair: Pair, trace: Records) -> None:
    index = first(trace, "base")
    assert trace[index]["candidates"]["blend"] == []
    changed = copy.deepcopy(trace)
    changed[index]["candidates"]["blend"] = trace[index]["candidates"]["base"]
    assert verify_trace(pair, changed) is not None


def first(records: Records, source: str) -> int:
    """Where the first step of that source is."""
    return next(n for n, step in enumerate(records) if step.get("source") == source)


def tampered(records: Records, index: int, path: str) -> Records:
    """The same trace with one value changed a little."""
    changed = copy.deepcopy(records)
    place: Any = changed[index]
    *parents, name = path.split(".")
    for parent in parents:
        place = place[parent]
    value = place[name]
    if isinstance(value, str):
        place[name] = "aligned" if name == "source" else value + "x"
    else:
        place[name] = value + (1 if isinstance(value, int) else 0.01)
    assert place[name] != value
    return changed


FIELDS = [
    "index", "id", "text", "source", "base.id", "base.text", "base.prob", "prob", "stop_prob",
    "gate_margin", "gap",
]  # fmt: skip
BLEND_FIELDS = ["aligned.id", "aligned.text", "aligned.prob", "alpha", "exact_mass", "prefix_mass"]


@pytest.mark.parametrize("path", FIELDS + BLEND_FIELDS)
def test_one_tampered_value_is_found_and_named(pair: Pair, trace: Records, path: str) -> None:
    index = first(trace, "blend")
    found = verify_trace(pair, tampered(trace, index, path))
    assert found is not None
    assert found.index == trace[index]["index"]
    assert found.field.split(".")[0] in (path.split(".")[0], "prob", "gap", "id")


@pytest.mark.parametrize("path", FIELDS)
def test_tampering_with_a_step_of_the_base_is_found(pair: Pair, trace: Records, path: str) -> None:
    index = first(trace, "base")
    found = verify_trace(pair, tampered(trace, index, path))
    assert found is not None
    assert found.index == trace[index]["index"]


def test_an_intervention_passed_off_as_the_bases_is_found(pair: Pair, trace: Records) -> None:
    changed = copy.deepcopy(trace)
    index = first(trace, "blend")
    changed[index] |= {"alpha": None, "aligned": None, "source": "base", "exact_mass": None}
    changed[index]["prefix_mass"] = None
    found = verify_trace(pair, changed)
    assert found is not None
    assert found.index == trace[index]["index"]


def test_another_tau_is_found(pair: Pair, trace: Records) -> None:
    changed = copy.deepcopy(trace)
    changed[0]["tau"] = 0.1
    assert verify_trace(pair, changed) is not None


def test_a_dropped_step_is_found(pair: Pair, trace: Records) -> None:
    assert verify_trace(pair, trace[:5] + trace[6:]) is not None


def test_what_is_no_trace_is_refused(pair: Pair, trace: Records) -> None:
    with pytest.raises(TraceError, match="run record"):
        verify_trace(pair, trace[1:])
    lacking = copy.deepcopy(trace)
    del lacking[2]["id"]
    with pytest.raises(TraceError, match="id"):
        verify_trace(pair, lacking)


def test_a_trace_of_the_guide_alone_names_no_choice_of_the_base(pair: Pair) -> None:
    records = record(pair, "Name a colour.", 12, name="aligned")
    alone = [step for step in records[1:-1] if step["source"] == "aligned"]
    assert len(alone) > 6
    assert all(step["base"] is None and step["candidates"]["base"] == [] for step in alone)
    assert (records[-1]["blend"]["overrides"], records[-1]["blend"]["exact_mass"]) != (0, None)
    assert verify_trace(pair, records) is None


def test_what_the_base_would_have_chosen_is_verified_where_a_trace_has_it(pair: Pair) -> None:
    """As traces of the guide alone had it before, when the base was run all the same."""
    records = record(pair, "Name a colour.", 12, "base", name="aligned")
    records[0]["stop_policy"] = "either"
    assert all(step["base"] is not None for step in records[1:-1])
    assert verify_trace(pair, records) is None
    records[5]["base"]["prob"] += 0.1
    assert verify_trace(pair, records) is not None


def test_the_base_s_choice_may_not_be_left_out_where_it_was_run(trace: Records, pair: Pair) -> None:
    changed = copy.deepcopy(trace)
    changed[3]["base"], changed[3]["candidates"]["base"] = None, []
    found = verify_trace(pair, changed)
    assert found is not None
    assert (found.index, found.field) == (2, "base.id")
