"""A trace says what happened, and what was written is read again."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.decoding.answer_stream import Piece
from blendin_mlx.errors import TraceError
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompts import PairPrompt, Prompt
from blendin_mlx.step import Candidate, Guidance, Step
from blendin_mlx.trace.records import TraceWriter, read_trace, step_record
from texts import TEXTS
from tiny import sentencepiece_tokenizer, tiny_model

PROMPT = PairPrompt(Prompt("# Query:\nü\u2028", (1, 5)), Prompt("<s>ü", (1, 6, 7)), ("# Query:",))
STEP = Step(
    index=0,
    id=290,
    source="blend",
    base=Candidate(289, 0.3),
    guidance=Guidance(Candidate(2, 0.5), alpha=0.625, exact_mass=1.0, prefix_mass=0.0),
    prob=0.4,
    stop_prob=0.25,
    gate_margin=-0.1,
    gap=0.05,
)
ALONE = replace(STEP, index=1, source="base", guidance=None)


@pytest.fixture(scope="module")
def pair() -> Pair:
    base, aligned = (
        tiny_model(sentencepiece_tokenizer("prepend"), seed=seed, name=name)
        for seed, name in enumerate(("a base", "a guide"))
    )
    return Pair(base=base, aligned=aligned)


def write(file: Any, pair: Pair, texts: list[str]) -> None:
    writer = TraceWriter(file, pair)
    writer.run(PROMPT, {"seed": 0, "method": "blendin"})
    for text in texts:
        writer.step(Piece(STEP, text))
    writer.end({"text": "the whole", "finish_reason": "stop", "seed": 0})


def test_what_was_written_is_read_again(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with path.open("w", encoding="utf-8") as file:
        write(file, pair, ["a", "", "ü\n\u2028\x85\r☃"])
    run, *steps, end = read_trace(path)
    assert run["type"] == "run"
    assert run["models"]["base"] == {"name": "a base", "path": None, "revision": None}
    assert run["models"]["aligned"]["name"] == "a guide"
    assert run["base_prompt"] == {"text": PROMPT.base.text, "ids": [1, 5]}
    assert run["aligned_prompt"] == {"text": PROMPT.aligned.text, "ids": [1, 6, 7]}
    assert (run["seed"], run["method"]) == (0, "blendin")
    assert [step["text"] for step in steps] == ["a", "", "ü\n\u2028\x85\r☃"]
    assert steps[0] == step_record(STEP, "a", pair)
    assert end == {"type": "end", "finish_reason": "stop", "seed": 0}


@given(st.lists(TEXTS, max_size=4))
def test_any_text_survives(pair: Pair, tmp_path_factory: Any, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("traces") / "trace.jsonl"
    with path.open("w", encoding="utf-8") as file:
        write(file, pair, texts)
    assert [r["text"] for r in read_trace(path) if r["type"] == "step"] == texts


def test_a_step_names_both_candidates_in_their_own_vocabularies(pair: Pair) -> None:
    record = step_record(STEP, "x", pair)
    written = pair.base.vocabulary.token_bytes[289]
    assert written is not None
    assert record["base"] == {"id": 289, "text": written.decode(), "prob": 0.3}
    assert record["aligned"] == {"id": 2, "text": "", "prob": 0.5}  # STOP writes nothing
    promised = {"type", "index", "id", "text", "source", "base", "aligned", "alpha", "prob"}
    assert set(record) >= promised | {"exact_mass", "stop_prob"}


def test_a_step_without_a_guide_has_none(pair: Pair) -> None:
    record = step_record(ALONE, "x", pair)
    assert (record["aligned"], record["alpha"], record["exact_mass"]) == (None, None, None)


def test_every_line_is_written_before_the_next_token(pair: Pair) -> None:
    class Slow(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed = self.getvalue().count("\n")

    file = Slow()
    writer = TraceWriter(file, pair)
    writer.run(PROMPT, {})
    assert file.flushed == 1
    writer.step(Piece(STEP, "a"))
    assert file.flushed == 2


def test_a_trace_that_was_cut_off_names_the_line(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    file = io.StringIO()
    write(file, pair, ["a", "b"])
    whole = file.getvalue().encode()
    path.write_bytes(whole[: whole.rindex(b'"gap"')])
    records = read_trace(path)
    assert [next(records)["type"], next(records)["type"]] == ["run", "step"]
    with pytest.raises(TraceError, match=r"cut\.jsonl:3 is not a trace record"):
        next(records)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"null", b'"type"', b"12", b'{"type": "step"', b"\xff\xfe", b"x"]
)
def test_a_line_that_is_no_record_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"type": "run"}\n' + line + b"\n")
    with pytest.raises(TraceError, match=r"bad\.jsonl:2 is not a trace record"):
        list(read_trace(path))


def test_every_line_is_one_json_object(pair: Pair) -> None:
    file = io.StringIO()
    write(file, pair, ["a\nb", "\u2028"])
    lines = file.getvalue().split("\n")
    assert lines.pop() == ""
    kinds = [json.loads(line)["type"] for line in lines]
    assert kinds == ["run", "step", "step", "end"]


def test_a_model_from_a_folder_is_named_with_its_path_and_revision(pair: Pair) -> None:
    known = pair.base
    located = LanguageModel(
        known.network, known.tokenizer, known.config, "base", "some/folder", "abc123"
    )
    file = io.StringIO()
    TraceWriter(file, Pair(base=located, aligned=pair.aligned)).run(PROMPT, {})
    models = json.loads(file.getvalue())["models"]
    assert models["base"] == {"name": "base", "path": "some/folder", "revision": "abc123"}
