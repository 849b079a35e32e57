"""``blendin tune``: what it reads, chooses, says and keeps."""

from __future__ import annotations

import contextlib
import json

import pytest

from blendin_cli.tune.examples import read_examples
from blendin_models.catalogue import entries

WORDS = ("red", "blue", "a cat", "two dogs", "the sea", "no", "yes", "rain", "Rome", "tea", "x\ny")


def written(path, count=14, **more):
    lines = [
        {"prompt": f"Say {n}.", "answer": WORDS[n % len(WORDS)], "kind": ("odd", "even")[n % 2]}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps({**line, **more}) + "\n" for line in lines))
    return path


@pytest.fixture
def tuned(run, tiny, tmp_path, monkeypatch):
    """``tuned(count, *options)``: a run over so many examples."""
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))

    def call(count=14, *options):
        return run("tune", *tiny, "--examples", written(tmp_path / "in.jsonl", count), *options)

    return call


def test_the_built_in_examples_are_many_and_of_every_kind():
    examples = read_examples(None)
    assert len(examples) >= 80
    assert {one.kind for one in examples} == {
        *("how-to", "list", "fact", "writing", "code", "refusal", "safe")
    }


def test_text_report(tuned):
    result = tuned(14, "--json")
    assert result.code == 0
    found = json.loads(result.text)
    assert found["examples"] == 14
    assert found["verdict"] in ("base", "blend", "guide", "undecided")
    assert found["settings"].keys() == found["compared_with"].keys()
    assert found["compared_with"]["tau"] == 0.4
    gained = found["nats_per_token"]
    assert found["gain_over"]["base"]["value"] == pytest.approx(gained["tuned"] - gained["base"])
    by_place = {place["name"]: place for place in found["places"]}
    assert {"first tokens", "kind: odd", "kind: even"} <= by_place.keys()
    assert by_place["kind: odd"]["tokens"] + by_place["kind: even"]["tokens"] == found["tokens"]
    assert found["calibration"]["base"]["error"] >= 0
    text = tuned().text
    assert found["remarks"][0] in text
    assert "blendin diagnose" in text


def test_kept_readings_are_reused(tuned, tmp_path, monkeypatch):
    first = tuned(14, "--json").text
    from blendin_mlx.scoring import readings

    def fail(*args, **options):
        raise AssertionError("read again")

    monkeypatch.setattr(readings, "read_example", fail)
    assert tuned(14, "--json").text == first
    (file,) = (tmp_path / "home" / "tuning").iterdir()
    file.write_bytes(file.read_bytes()[:-40])  # cut, as by a kill
    assert tuned(14).code != 0


def test_after_an_interrupt_it_goes_on_from_what_was_read(tuned, tmp_path, monkeypatch):
    from blendin_cli.tune import command

    class Interrupt:
        @property
        def pressed(self):
            return any((tmp_path / "home" / "tuning").glob("*"))

    with monkeypatch.context() as patched:
        patched.setattr(command, "interruptible", lambda: contextlib.nullcontext(Interrupt()))
        broken_off = tuned(14)
    assert (broken_off.code, broken_off.text) == (130, "")
    assert "1 example read and kept; run it again to go on" in broken_off.err
    (file,) = (tmp_path / "home" / "tuning").iterdir()
    assert tuned(14).code == 0
    assert sum(bool(line) for line in file.read_bytes().splitlines()) == 14


def test_too_few_are_not_judged_but_drawn(tuned, tmp_path):
    page = tmp_path / "map.html"
    result = tuned(5, "--html", page)
    assert result.code == 0
    assert "cannot be told from so few examples" in result.text
    assert "5 examples are too few to judge by: it takes 12" in result.text
    html = page.read_text()
    assert html.count('<rect class="cell') == 20 * 14
    assert html.count("<details") == 5
    assert "<script" not in html


def test_page_escapes_texts(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    evil = written(tmp_path / "in.jsonl", 2, prompt="<img src=x>", answer="<b>&", kind="<i>")
    page = tmp_path / "map.html"
    assert run("tune", *tiny, "--examples", evil, "--html", page).code == 0
    html = page.read_text()
    assert "&lt;img src=x&gt;" in html
    assert "<img" not in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("line", "options", "reason"),
    [
        ({"prompt": "hi"}, (), "line 1: not an object with"),
        ({"prompt": "hi", "answer": " "}, (), "line 1: not an object with"),
        ({"prompt": "hi", "answer": "\ud800"}, (), "line 1: not an object with"),
        ({"answer": "hi"}, (), "line 1: not an object with"),
        ({"prompt": "hi", "answer": "a"}, ("--method", "kad"), "not of kad"),
        ({"prompt": "hi", "answer": "a"}, ("--save", "new"), "is not in the catalogue"),
        ({"prompt": "hi", "answer": "a"}, ("--save", "../x"), "is not a name"),
        ({"prompt": "hi", "answer": "a"}, ("--save", "x", "--lambda", 0.2), "keeps no --lambda"),
    ],
)
def test_bad_input_is_named_before_a_model_is_loaded(run, tiny, tmp_path, line, options, reason):
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps(line) + "\n")
    result = run("tune", *tiny, "--examples", file, *options)
    assert result.code == 2
    assert reason in result.err


def test_an_answer_longer_than_a_context_is_left_out(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    file = written(tmp_path / "in.jsonl", 3)
    with file.open("a") as lines:
        lines.write(json.dumps({"prompt": "hi", "answer": "x" * 9000}) + "\n")
    result = run("tune", *tiny, "--examples", file, "--json")
    assert json.loads(result.text)["examples"] == 3
    assert "example of line 4 is left out: prompt and answer have" in result.err


def test_a_pair_is_written_with_what_was_found(tiny, tmp_path, monkeypatch):
    from blendin_cli.tune.saving import own_pair_file, write_pair
    from blendin_mlx.scoring.dial_map import Dial
    from blendin_models import PairSpec

    monkeypatch.setenv("BLENDIN_CONFIG", str(tmp_path))
    entries._catalogue.cache_clear()
    models = ("gemma-3-270m", "smollm2-135m-instruct")
    file = own_pair_file("mine", models)

    class Settings:
        base_template = "examples"

    parts = (models[0], None), (models[1], tmp_path / "lora")
    write_pair(file, parts, Dial(0.9, 0.5, guide_temp=1.4), Settings, "abc", 'a "pair"')
    entries._catalogue.cache_clear()
    pair = entries.find_pair("mine")
    assert (pair.tau, pair.alpha, pair.dial, pair.guide_temp) == (0.9, 0.5, 1.0, 1.4)
    assert (pair.tuned_for, pair.description) == ("abc", 'a "pair"')
    assert PairSpec(pair="mine").parts() == parts
    assert own_pair_file("mine", models) == file  # it may be tuned again
    with pytest.raises(Exception, match="taken"):
        own_pair_file("demo", models)
    entries._catalogue.cache_clear()


def test_saved_settings_are_those_of_the_new_pair(run, tiny_demo, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_CONFIG", str(tmp_path))
    monkeypatch.setenv("BLENDIN_HOME", str(tiny_demo))
    monkeypatch.setattr("blendin_cli.tune.report.judge", lambda outcome: "blend")
    entries._catalogue.cache_clear()
    examples = written(tmp_path / "in.jsonl")
    found = run("tune", "--pair", "demo", "--examples", examples, "--save", "mine", "--json")
    assert "use it with --pair mine" in found.err
    entries._catalogue.cache_clear()
    settings = json.loads(found.text)["settings"]
    used = json.loads(run("generate", "--pair", "mine", "-m", 2, "--json", "hi").text)["blend"]
    for name in ("tau", "alpha", "dial", "guide_temp"):
        assert used[name] == settings[name], name
    entries._catalogue.cache_clear()
