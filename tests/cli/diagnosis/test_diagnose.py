"""``blendin diagnose``: every guide checked first, none lost to another, all shown in order."""

from __future__ import annotations

import gc
import json
import weakref

import pytest

from blendin_cli import session
from blendin_cli.diagnosis import command as command
from blendin_cli.diagnosis.command import read_prompts
from blendin_cli.diagnosis.report import FEWEST
from tiny_folders import write_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a base, of guides, and of one whose weights make no sense."""
    from blendin_mlx.backend.mlx import mx

    folder = tmp_path_factory.mktemp("guides")
    write_model(folder / "base", 1, chat_template=False)
    for seed, name in enumerate(("one", "two", "silent"), 2):
        write_model(folder / name, seed)
    write_model(folder / "raw", 9, chat_template=False)
    file = folder / "silent" / "model.safetensors"
    mx.save_safetensors(str(file), {k: 0 * w for k, w in mx.load(str(file)).items()})
    return folder


@pytest.fixture
def six(tmp_path):
    file = tmp_path / "six.txt"
    file.write_text("".join(f"the cat and {n} dogs\n" for n in range(6)))
    return file


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("BLENDIN_DIAGNOSE_DRAFT", "off")
    monkeypatch.setenv("BLENDIN_DIAGNOSE_MAX_TOKENS", "4")


def pair(models):
    return "--base", models / "base", "--aligned", models / "one"


def test_rates_are_those_of_a_run(run, models, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "one"}\n\n{"prompt": "two"}\n')
    result = run("diagnose", *pair(models), "--prompts", file, "--tau", 0.9, "--json")
    (report,) = json.loads(result.text)
    assert (report["prompts"], report["guide"], report["rank"]) == (2, "one", 1)
    assert report["verdict"]
    assert report["against_next"] is None
    assert "one: 2 of 2 prompts" in result.err
    lines = run("run", *pair(models), "-m", 4, "--tau", 0.9, file).text.splitlines()
    told = [(one["blend"]["interventions"], one["usage"]["completion_tokens"])
            for one in map(json.loads, lines)]  # fmt: skip
    assert [(one["asked"], one["tokens"]) for one in report["counts"]] == told
    asked, tokens = (sum(column) for column in zip(*told, strict=True))
    assert report["rate"] == pytest.approx(asked / tokens)


@pytest.mark.parametrize("size", [2, 4])
def test_a_batch_finds_what_one_by_one_finds(run, models, six, size):
    options = (*pair(models), "--guide", models / "two", "--prompts", six, "--tau", 0.9, "--json")
    alone, batch = (
        json.loads(run("diagnose", *options, *more).text) for more in ((), ("--batch", size))
    )
    for one, other in zip(alone, batch, strict=True):
        for key in ("guide", "prompts", "counts", "rate", "low", "high", "cascades", "hit_limit"):
            assert one[key] == other[key], key


def test_figures_for_a_person(run, models, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("one\n")
    text = run("diagnose", *pair(models), "--prompts", file, "-q").text
    assert text.startswith("one\n  prompts         1\n  interventions")
    assert "- the answers to 1 prompt were not graded" in text
    assert "ranking" not in text


def test_several_guides_are_ranked_for_a_person(run, models, six):
    result = run("diagnose", *pair(models), "--guide", models / "two", "--prompts", six, "-q")
    *_, heading, first, against, second = result.text.splitlines()
    assert heading.startswith("ranking: ")
    assert {first, second} == {"1. one", "2. two"} or {first, second} == {"1. two", "2. one"}
    assert f"6 prompts cannot tell them apart (at least {FEWEST} are needed)" in against


def test_in_json_each_guide_says_how_it_stands_to_the_next(run, models, tmp_path):
    file = tmp_path / "many.txt"
    file.write_text("".join(f"the {n}th cat\n" for n in range(FEWEST)))
    first, last = json.loads(
        run("diagnose", *pair(models), "--guide", models / "two", "--prompts", file,
            "--tau", 0.9, "--json").text
    )  # fmt: skip
    assert [first["rank"], last["rank"]] == [1, 2]
    assert first["base_tokens_per_s"] == last["base_tokens_per_s"]  # the base is asked once
    assert first["guide_tokens_per_s"] != last["guide_tokens_per_s"]
    against = first["against_next"]
    assert (against["guide"], against["prompts"]) == (last["guide"], FEWEST)
    assert against["differences"]["rate"]["value"] == pytest.approx(last["rate"] - first["rate"])
    assert last["against_next"] is None


@pytest.mark.parametrize(
    ("guide", "code", "said"), [("nope", 3, "nope"), ("raw", 4, "raw has no chat template")]
)
def test_every_guide_is_checked_before_the_first_is_measured(run, models, six, guide, code, said):
    result = run("diagnose", *pair(models), "--guide", models / guide, "--prompts", six)
    assert result.code == code
    assert said in result.error()  # nothing else is on stderr: no prompt was answered


def test_an_unknown_guide_is_refused_before_another_is_fetched(run, models, monkeypatch):
    from blendin_models.fetching import resolve

    monkeypatch.setattr(resolve, "install", lambda *_: pytest.fail("something was fetched"))
    result = run("diagnose", "--base", models / "base", "--guide", "smollm2-135m-instruct",
                 "--guide", "./nope")  # fmt: skip
    assert result.code == 3
    assert "nope" in result.error()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_finished_guides_are_reported_when_a_later_one_fails(run, models, six, tmp_path, form):
    html = tmp_path / "a.html"
    result = run("diagnose", *pair(models), "--guide", models / "silent", "--prompts", six, *form,
                 "--html", html)  # fmt: skip
    assert result.code == 1
    assert "silent produced the same logit" in result.err.splitlines()[-1]
    assert "one: 6 of 6 prompts" in result.err
    if form:
        assert [one["guide"] for one in json.loads(result.text)] == ["one"]
    else:
        assert result.text.startswith("one\n  prompts         6\n")
    assert "one" in html.read_text()


@pytest.mark.parametrize("option", ["--html", "--png"])
def test_unwritable_output_is_refused_before_measuring(run, models, six, tmp_path, option):
    pytest.importorskip("matplotlib", reason="needs the plot extra to draw")
    target = tmp_path / "no" / "such" / "file"
    result = run("diagnose", *pair(models), option, target, "--prompts", six)
    assert result.code == 2
    assert f"{option}: cannot write {target}" in result.error()


def test_the_models_of_one_guide_are_gone_when_the_next_are_loaded(run, models, six, monkeypatch):
    load, loaded, alive = session.load_pair, [], []

    def watched(*arguments, **options):
        alive.append([one() is not None for one in loaded])
        made = load(*arguments, **options)
        loaded.extend([weakref.ref(made.base.network), weakref.ref(made.aligned.network)])
        return made

    monkeypatch.setattr(session, "load_pair", watched)
    gc.disable()  # whatever else frees them by chance
    try:
        run("diagnose", *pair(models), "--guide", models / "two", "--prompts", six)
    finally:
        gc.enable()
    assert alive == [[], [False, False]]


def test_guides_alone_may_be_named(run, models, six):
    result = run("diagnose", "--base", models / "base", "--guide", models / "one",
                 "--guide", models / "two", "--prompts", six, "--json")  # fmt: skip
    assert result.code == 0
    assert {one["guide"] for one in json.loads(result.text)} == {"one", "two"}


def test_a_base_without_any_guide_is_refused(run, models):
    result = run("diagnose", "--base", models / "base")
    assert result.code == 2
    assert "--aligned" in result.error()


def test_a_guide_that_is_named_twice_is_measured_once(run, models, six):
    result = run("diagnose", *pair(models), "--guide", models / "one", "--prompts", six, "--json")
    assert [one["guide"] for one in json.loads(result.text)] == ["one"]
    assert "one is named twice" in result.err


def test_guides_whose_folders_share_a_name_are_told_apart(run, models, six, tmp_path):
    other = write_model(tmp_path / "one", 7)
    result = run("diagnose", *pair(models), "--guide", other, "--prompts", six, "--json")
    assert {one["guide"] for one in json.loads(result.text)} == {str(models / "one"), str(other)}


def test_a_method_without_the_paper_s_gate_is_not_held_to_its_line(run, models, six):
    options = (*pair(models), "--prompts", six, "-q")
    for given, why in (
        (["--method", "ensemble"], "ensemble has no tau"),
        (["--tau", 0.9], "hold for tau 0.4, not for 0.9"),
    ):
        text = run("diagnose", *options, *given).text
        assert "- not judged: " in text
        assert why in text
        assert "warning" not in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"prompt": "x"}\n{"p": 1}\n', "line 2: not an object"),
        ("a.jsonl", b"[]\n", "line 1: not an object"),
        ("a.jsonl", b'[]\n{"prompt": "x"}\n7\n\n{\n', "lines 1, 3 and 5: not an object"),
        ("a.jsonl", b"7\n" * 17, "lines 1, 2, 3, 4, 5 and 12 more: not an object"),
        ("a.jsonl", b'{"prompt": "\\ud800"}\n{"prompt": " "}', "lines 1 and 2: not an object"),
        ("a.txt", b"\n", "no prompts"),
        ("a.txt", b"\xff\n", "byte 0"),
    ],
)
def test_bad_lines_are_named(run, tiny, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    result = run("diagnose", *tiny, "--prompts", tmp_path / name)
    assert result.code == 2
    assert said in result.error()


def test_a_line_separator_within_a_prompt_is_text(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "one\u2028two"}\r\n{"prompt": "three"}\n', encoding="utf-8")
    assert read_prompts(file) == ["one\u2028two", "three"]


def test_the_built_in_prompts_are_some_thirty():
    assert len(set(read_prompts(None))) == 30


def test_a_page_and_a_picture_are_written(run, models, six, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the plot extra to draw")
    html, png = tmp_path / "a.html", tmp_path / "a.png"
    result = run("diagnose", *pair(models), "--guide", models / "two", "--prompts", six,
                 "--html", html, "--png", png)  # fmt: skip
    assert result.text.splitlines()[-2].strip() in html.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {html}" in result.err


def test_ctrl_c_tells_what_was_finished(run, models, six, monkeypatch):
    measure = command.measure

    def then_pressed(guide, prompts, base, until_stable, interrupt, quiet, size):
        report = measure(guide, prompts, base, until_stable, interrupt, quiet, size)
        interrupt.pressed = True
        return report

    monkeypatch.setattr(command, "measure", then_pressed)
    result = run("diagnose", *pair(models), "--guide", models / "two", "--prompts", six, "--json")
    assert result.code == 130
    assert [one["guide"] for one in json.loads(result.text)] == ["one"]
