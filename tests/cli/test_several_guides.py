"""Several guides on the command line: weights, votes, and what takes one guide only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest

from blendin_cli.options.types import Guide, WeightedModel
from blendin_cli.tune.kept import KeptReadings
from blendin_cli.tuned import weights_digest
from blendin_mlx import Prompt, build_prompt
from blendin_mlx.errors import PairError
from blendin_models import PairSpec, load_pair
from blendin_models.pair import check_pair
from tiny_adapters import write_adapter
from tiny_folders import write_model


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Folders of a base and of three guides, one of them without a chat template."""
    folder = tmp_path_factory.mktemp("guides")
    write_model(folder / "base", 1, chat_template=False)
    write_model(folder / "one", 2)
    write_model(folder / "two", 3)
    write_model(folder / "raw", 4, chat_template=False)
    return folder


@pytest.fixture
def pair(models) -> list[object]:
    return [
        *("--base", models / "base"),
        *("--aligned", f"{models / 'one'}=0.7", "--aligned", f"{models / 'two'}=2.1"),
    ]


def test_weights_follow_the_last_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=2").mkdir()
    kind = Guide()
    cases = {
        "a": ("a", 1.0),
        "a=0.7": ("a", 0.7),
        "a=b=1e-3": ("a=b", 0.001),
        "a=b": ("a=b", 1.0),
        "x=2": ("x=2", 1.0),  # a folder
        "x=2=3": ("x=2", 3.0),
    }
    for written, (name, weight) in cases.items():
        assert kind.convert(written, None, None) == WeightedModel(name, weight)
    for refused in ("a=0", "a=-1", "a=nan", "a=inf", "a=1e39"):
        with pytest.raises(click.BadParameter, match="weight is a number above 0"):
            kind.convert(refused, None, None)


def test_all_guides_are_asked(run, pair, tmp_path):
    trace = tmp_path / "run.jsonl"
    options = "-m", 10, "--tau", 0.9, "--trace", trace, "--json", "the cat"
    result = json.loads(run("generate", *pair, *options).text)
    assert result["models"] == {"base": "base", "aligned": "one", "aligned 2": "two"}
    assert result["passes"]["aligned"] == result["passes"]["aligned 2"] > 0
    first, *steps, end = map(json.loads, trace.read_text().splitlines())
    assert first["weights"] == pytest.approx([0.25, 0.75])
    assert [len(step.get("votes", ())) for step in steps if step["alpha"] is not None]
    assert end["blend"]["interventions"] > 0
    assert run("trace", "verify", trace).code == 0


def test_a_trace_shows_each_vote(run, pair, tmp_path):
    trace, page = tmp_path / "run.jsonl", tmp_path / "page.html"
    options = "-m", 12, "--method", "nudging", "--tau", 1, "--trace", trace
    assert run("generate", *pair, *options, "the cat").code == 0
    shown = run("trace", "view", trace).text
    assert "base, guided by 0.25 one + 0.75 two" in shown
    assert "(one '" in shown
    assert ", two '" in shown
    assert run("trace", "html", trace, "--output", page).code == 0
    assert "two says" in page.read_text()


def test_hostile_weights_of_a_trace_are_one_line(run, pair, tmp_path):
    trace = tmp_path / "run.jsonl"
    assert run("generate", *pair, "-m", 2, "--trace", trace, "the cat").code == 0
    first, *rest = trace.read_text().splitlines()
    for weights in ([1], ["a", "b"], None, {}, [0, 1], [1, 2, 3], [True, 1e999]):
        record = {**json.loads(first), "weights": weights}
        trace.write_text("\n".join([json.dumps(record), *rest, ""]))
        for command in ("verify", "view"):
            result = run("trace", command, trace)
            assert result.code == 1, (weights, command)
            assert "weights" in result.error()


def test_why_shows_each_guide(run, pair):
    told = run("chat", *pair, "-m", 4, "--method", "ensemble", stdin=b"the cat\n/why 1\n")
    assert told.code == 0
    assert "0.25 one" in told.err
    assert "0.75 two" in told.err
    assert "base, guided by 0.25 one + 0.75 two" in told.err


def test_run_says_that_answers_are_written_one_by_one(run, pair, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('{"prompt": "the cat"}\n{"prompt": "an egg"}\n')
    alone = run("run", *pair, "-m", 4, file)
    batched = run("run", *pair, "-m", 4, "--batch", 2, file)
    assert "one answer after the other: several guides" in batched.err
    texts = [
        [json.loads(line)["text"] for line in result.text.splitlines()]
        for result in (alone, batched)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("command", ["compare", "diagnose", "score", "tune"])
def test_other_commands_take_several(run, pair, models, tmp_path, monkeypatch, command):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    lines = [{"prompt": f"the cat {n}", "answer": "sat on the mat"} for n in range(6)]
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {
        "compare": ["-m", 3, "the cat"],
        "diagnose": ["-m", 3, "--prompts", file, "--guide", models / "one", "--json"],
        "score": [file],
        "tune": ["--examples", file, "--json"],
    }[command]
    result = run(command, *pair, *options)
    assert result.code == 0, result.err
    if command == "diagnose":
        assert {one["guide"] for one in json.loads(result.text)} == {"one + two", "one"}


def test_what_takes_one_guide_says_so(run, pair, models, tmp_path):
    adapter = write_adapter(tmp_path / "lora", models / "one")
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}")
    cases: list[tuple[list[object], str]] = [
        (["--aligned-adapter", adapter], "not onto one of several"),
        (["--aligned-template", template], "here are several"),
    ]
    for options, named in cases:
        result = run("generate", *pair, *options, "hi")
        assert result.code == 2
        assert named in result.err
    saved = run("tune", *pair, "--save", "mine")
    assert saved.code == 2
    assert "one aligned model" in saved.err
    proxy = run("generate", *pair, "--method", "proxy-tuning", "--reference", models / "two", "hi")
    assert proxy.code == 4
    assert "several guides" in proxy.error()


def test_each_guide_needs_a_chat_template(run, pair, models):
    result = run("generate", *pair, "--aligned", models / "raw", "hi")
    assert result.code == 4
    assert "raw has no chat template" in result.error()


def test_several_guides_in_a_settings_file(run, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{models / 'one'}=1", str(models / "two")]
    Path("blendin.toml").write_text(
        f"base = {json.dumps(str(models / 'base'))}\naligned = {json.dumps(names)}\n"
    )
    result = json.loads(run("generate", "-m", 2, "--json", "hi").text)
    assert result["models"]["aligned 2"] == "two"
    monkeypatch.setenv("BLENDIN_GENERATE_ALIGNED", str(models / "two"))
    result = json.loads(run("generate", "-m", 2, "--json", "hi").text)
    assert result["models"] == {"base": "base", "aligned": "two"}


def test_every_chat_template_is_checked_before_weights_are_read(models):
    names = [str(models / name) for name in ("one", "raw")]
    for guides in (names, names[::-1]):
        spec = PairSpec(base=str(models / "base"), aligned=guides, needs_chat_template=True)
        with pytest.raises(PairError, match="raw has no chat template"):
            check_pair(spec)


def test_what_is_kept_of_a_pair_is_of_all_its_guides(models, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    names = [str(models / name) for name in ("one", "two")]
    pairs = [
        load_pair(base=str(models / "base"), aligned=names[:count], weights=weights)
        for count, weights in ((1, ()), (2, ()), (2, (1, 3)))
    ]
    assert len({weights_digest(pair) for pair in pairs}) == 3
    kept, prompt = KeptReadings(pairs[1]), build_prompt(pairs[1], "the cat")
    other = replace(prompt, others=(Prompt("", (1, 2)),))
    assert kept.key(prompt, "x") != kept.key(other, "x")


def test_specs_of_several_guides():
    spec = PairSpec(base="b", aligned=("x", "y"), weights=(1, 2), reference="r")
    assert spec.names() == ("b", "x", "r", "y")
    assert PairSpec(pair="demo", aligned=["x", "y"]).names()[1:] == ("x", "y")
    with pytest.raises(ValueError, match="2 guides, but 1 weights"):
        PairSpec(base="b", aligned=("x", "y"), weights=(1,))
    with pytest.raises(ValueError, match="name a pair"):
        PairSpec(base="b", aligned=())
