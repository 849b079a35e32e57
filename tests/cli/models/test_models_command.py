"""``blendin models`` and ``blendin doctor``."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
from huggingface_hub import constants

import gguf_samples
from blendin_cli.models import tables
from blendin_models.catalogue import entries
from blendin_models.hub import cache
from blendin_models.storage import manifest
from tiny_folders import write_model

KEPT = {"name", "path", "bytes", "source", "revision", "problem"}
MODEL = KEPT | {"license", "gated", "installed", "download_bytes"}
PAIR = {"name", "description", "note", "recommended", "one_tokenizer", "installed", "fits"}
PAIR |= {"download_bytes", "memory_bytes", "base", "aligned", "reference"}
NAMES = ("gemma-3-270m", "smollm2-135m-instruct")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache folder with the second model of the demo pair in it."""
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no hub cache"))
    folder = tmp_path / "models" / NAMES[1]
    folder.mkdir(parents=True)
    for file in ("config.json", "tokenizer.json"):
        (folder / file).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"0" * 3_000_000)
    return tmp_path


def test_list_as_json(run):
    (demo, *_) = json.loads(run("models", "list", "--json").text)
    assert demo.keys() == PAIR
    assert (demo["installed"], demo["one_tokenizer"], demo["fits"]) == (False, False, True)
    assert demo["download_bytes"] == demo["base"]["download_bytes"]  # the other is here
    assert demo["base"].keys() == demo["aligned"].keys() == MODEL
    assert [demo[role]["name"] for role in ("base", "aligned")] == list(NAMES)
    assert [demo[role]["installed"] for role in ("base", "aligned")] == [False, True]


def test_list_is_aligned(run):
    _, base, aligned = run("models", "list").text.splitlines()[:3]
    assert "not here, 253 MB to download" in base
    assert "here, 3 MB" in aligned
    assert base.index("not here") == aligned.index("here")
    assert base.index("Gemma terms") == aligned.index("Apache")


def test_show_a_model_has_its_path(run, home):
    told = json.loads(run("models", "show", NAMES[1], "--json").text)
    assert told.keys() == MODEL
    assert told["path"] == str(home / "models" / NAMES[1])
    assert told["bytes"] == 3_000_004
    missing = json.loads(run("models", "show", NAMES[0], "--json").text)
    assert (missing["installed"], missing["path"], missing["bytes"]) == (False, None, None)


def test_show_a_hub_repo_that_is_here(run, home):
    folder = write_model(home / "models" / "someone--model-c0ffee00-4bit-g64", 1)
    manifest.write(folder, manifest.Manifest("someone/model", "c0ffee00"))
    shown = json.loads(run("models", "show", "someone/model", "--json").text)
    assert (shown["path"], shown["revision"]) == (str(folder), "c0ffee00")
    missing = run("models", "show", "someone/other")
    assert missing.code == 3
    assert "someone/other is not installed" in missing.error()


def test_models_without_a_pair_are_listed_last(run, home):
    folder = write_model(home / "models" / "mine", 1)
    manifest.write(folder, manifest.Manifest("mine.gguf", "sha256:12"))
    *pairs, mine = json.loads(run("models", "list", "--json").text)
    assert all(pair.keys() == PAIR for pair in pairs)
    assert mine == json.loads(run("models", "show", "mine", "--json").text)
    assert mine.keys() == KEPT
    assert (mine["source"], mine["revision"]) == ("mine.gguf", "sha256:12")
    assert run("models", "list").text.splitlines()[-1].startswith("mine  ")


def test_suggestions_are_what_fits_one_tokenizer_first(run, monkeypatch):
    monkeypatch.setattr("blendin_models.loading.memory.recommended", lambda: 6 * 10**9)
    pairs = json.loads(run("models", "suggest", "--json").text)
    assert [pair["name"] for pair in pairs] == ["smollm2", "demo", "demo-qwen"]
    assert all(pair["fits"] for pair in pairs)
    lines = run("models", "suggest").text.splitlines()
    assert "one tokenizer" in lines[0]
    described = [line for line in lines if "one tokenizer" in line or "two tokenizers" in line]
    assert len({line.index(" tokenizer") for line in described}) == 1  # columns


def test_list_marks_models_that_do_not_fit(run, monkeypatch):
    monkeypatch.setattr("blendin_models.loading.memory.recommended", lambda: 10**9)
    (line,) = [row for row in run("models", "list").text.splitlines() if row.startswith("demo ")]
    assert "GB of memory: too large for this machine" in line


def test_verify_says_what_is_wrong_and_how_to_repair_it(run, home):
    folder = write_model(home / "models" / "mine", 1)
    manifest.write(folder, manifest.Manifest("mine.gguf"))
    assert run("models", "verify", "mine").err == "mine: all files match their checksums\n"
    (folder / "config.json").write_text("{}")
    result = run("models", "verify", "mine")
    assert result.code == 3
    assert "mine: config.json is damaged: its SHA-256 differs; repair it: " in result.error()
    assert "has no record" in run("models", "verify", NAMES[1]).error()


def test_of_a_pair_only_the_damaged_model_is_to_be_fetched_again(run, home):
    folder = home / "models" / NAMES[1]
    manifest.write(folder, manifest.Manifest("somewhere"))
    other = write_model(home / "models" / NAMES[0], 1)
    manifest.write(other, manifest.Manifest("elsewhere"))
    (folder / "config.json").write_text("{ }")
    repair = f"blendin models remove {NAMES[1]} && blendin models pull {NAMES[1]}"
    assert run("models", "verify", "demo").error().endswith(repair)


def test_import_a_gguf_file(run, home, tmp_path):
    file = tmp_path / "Tiny.gguf"
    config = gguf_samples.tiny_config("llama")
    weights = gguf_samples.weights_of(gguf_samples.tiny_model(config))
    gguf_samples.write_model(file, "llama", config, weights)
    imported = run("models", "import", file, "--json")
    assert imported.err == f"tiny is ready in {home}/models/tiny\n"
    told = json.loads(imported.text)
    assert (told["name"], told["path"]) == ("tiny", f"{home}/models/tiny")
    assert told["revision"].startswith("sha256:")
    assert run("models", "verify", "tiny").code == 0
    again = run("models", "import", file)
    assert again.code == 3
    assert "tiny is taken" in again.error()
    for name in (NAMES[0], "demo"):
        assert "is taken" in run("models", "import", file, "--name", name).error()
    assert run("models", "import", file, "--name", "second", "-q").err == ""
    assert run("models", "import", tmp_path / "none.gguf").code == 2


def test_show_a_pair(run, home):
    told = json.loads(run("models", "show", "demo", "--json").text)
    assert told["aligned"]["path"] == str(home / "models" / NAMES[1])
    text = run("models", "show", "demo").text
    assert f"  path             {home}/models/{NAMES[1]}\n" in text
    starts = {line[2:].split(" ", 1)[0] for line in text.splitlines() if line.startswith("  ")}
    assert starts >= {"name", "license", "installed", "download", "source"}
    needed = told["memory_bytes"] / 1e9
    assert f"\nmemory           {needed:.2f} GB\n" in text
    assert "\n  on disk          3 MB\n" in text
    assert not re.search(r"_|\d{6}", re.sub(r"\S*[/=]\S*", "", text))
    assert "note" not in text  # nothing is shown of what there is nothing to say of


def test_remove_frees_once(run, home):
    first = run("models", "remove", NAMES[1])
    assert (first.code, first.out) == (0, b"")
    assert first.err == f"{NAMES[1]} removed, 3 MB freed\n"
    assert not (home / "models" / NAMES[1]).exists()
    second = run("models", "remove", NAMES[1])
    assert second.code == 3
    assert f"{NAMES[1]} is not installed" in second.error()


def test_remove_a_pair_removes_what_is_here(run, home):
    assert run("models", "remove", "demo").code == 0
    assert list((home / "models").iterdir()) == []
    assert run("models", "remove", "demo").code == 3


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "/", "/a", "-x\n", ".hidden"])
def test_remove_refuses_names_that_leave_the_folder(run, home, name):
    (home / "x").mkdir()
    result = run("models", "remove", "--", name)
    assert result.code == 3
    assert "is not a model name" in result.error()
    assert (home / "x").is_dir()
    assert (home / "models" / NAMES[1]).is_dir()


def test_pull_unknown_name(run):
    result = run("models", "pull", NAMES[1], "smolm2-135m-instruct")
    assert result.code == 3
    assert f"did you mean {NAMES[1]}?" in result.error()


@pytest.mark.parametrize("name", ["", " "])
def test_pull_refuses_an_empty_name(run, name):
    result = run("models", "pull", name)
    assert result.code == 3
    assert "a model's name is empty" in result.error()


def test_pull_reports_models_that_cannot_be_loaded(run, home):
    for name, said in ((str(home), "is not a model folder"), (NAMES[1], "has no model_type")):
        result = run("models", "pull", name)
        assert result.code == 3
        assert said in result.error()
        assert "is ready" not in result.err


def test_no_repair_is_named_where_none_can_help(run, home):
    shutil.rmtree(home / "models" / NAMES[1])
    config = write_model(home / "models" / NAMES[1], 1) / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"nonesuch"'))
    line = run("models", "pull", NAMES[1]).error()
    assert "'nonesuch' model, which the installed mlx-lm does not support" in line
    assert "repair it" not in line


def test_pull_and_remove_as_json(run, home):
    folder = write_model(home / "models" / "mine", 1)
    manifest.write(folder, manifest.Manifest("mine.gguf", "sha256:12"))
    (pulled,) = json.loads(run("models", "pull", "mine", "--json").text)
    assert pulled == {"name": "mine", "path": str(folder), "revision": "sha256:12"}
    (verified,) = json.loads(run("models", "verify", "mine", "--json").text)
    assert (verified["name"], verified["problems"]) == ("mine", [])
    (folder / "config.json").write_text("{}")
    damaged = run("models", "verify", "mine", "--json")
    assert damaged.code == 3
    (verified,) = json.loads(damaged.text)
    assert verified["problems"] == ["config.json is damaged: its SHA-256 differs"]
    size = sum(file.stat().st_size for file in folder.iterdir())
    (removed,) = json.loads(run("models", "remove", "mine", "--json").text)
    assert removed == {"name": "mine", "freed_bytes": size}


def test_a_damaged_model_is_listed_shown_and_removed_and_hinders_no_other(run, home):
    mine = write_model(home / "models" / "mine", 1)
    (mine / "tokenizer.json").unlink()
    (write_model(home / "models" / "other", 1) / "blendin.json").write_text("{")
    (home / "models" / NAMES[1] / "tokenizer.json").unlink()
    lines = run("models", "list").text.splitlines()
    assert any(NAMES[1] in line and " damaged, " in line for line in lines)
    (line,) = (line for line in lines if line.startswith("mine "))
    assert line.endswith("(damaged: it lacks tokenizer.json)")
    demo = json.loads(run("models", "show", "demo", "--json").text)
    assert (demo["installed"], demo["aligned"]["installed"]) == (False, False)
    assert demo["aligned"]["problem"] == "it lacks tokenizer.json"
    told = json.loads(run("doctor", "--json").text)["models"]
    assert told["mine"] == "damaged, it lacks tokenizer.json; blendin models remove mine"
    assert told["other"].startswith("damaged, ")
    assert told[NAMES[1]].startswith("damaged, it lacks tokenizer.json; ")
    assert run("models", "show", "mine").code == 0
    for name in ("mine", "other"):
        assert run("models", "verify", name).code == 3
        assert run("models", "remove", name).code == 0
        assert not (home / "models" / name).exists()


def test_a_name_taken_by_a_damaged_model_says_so(run, home, tmp_path):
    (home / "models" / "mine").mkdir()
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF")
    said = run("models", "import", file).error()
    assert "mine is taken by a damaged model; run blendin models remove mine, or choose" in said


def test_the_hubs_cache_is_looked_through_once(run, monkeypatch):
    looked = []
    monkeypatch.setattr(cache, "snapshot_folders", lambda: looked.append(1) or [])
    for command in (("list",), ("suggest",), ("list", "--json")):
        looked.clear()
        assert run("models", *command).code == 0
        assert looked == [1]


def test_gated_models_and_references_are_told(run):
    (entry,) = entries.find_models("llama-3.1-8b")
    about = tables.about_model(replace(entry, gated=True), [])
    assert tables.model_line(about).endswith("; gated")
    assert not tables.model_line({**about, "gated": False}).endswith("; gated")
    assert "reference        smollm2-360m\n" in run("models", "show", "smollm2-large").text


def test_pull_what_is_here(run, home):
    shutil.rmtree(home / "models" / NAMES[1])
    write_model(home / "models" / NAMES[1], 1)
    assert run("models", "pull", NAMES[1]).err == f"{NAMES[1]} is ready\n"
    assert run("models", "pull", "-q", NAMES[1]).err == ""


def test_damaged_model_of_the_catalogue_names_the_repair(run, tiny):
    result = run("generate", *tiny[:2], "--aligned", NAMES[1], "hi")
    assert result.code == 3
    assert f"blendin models remove {NAMES[1]} && blendin models pull {NAMES[1]}" in result.error()


def test_doctor_as_json(run, home):
    told = json.loads(run("doctor", "--json").text)
    expected = "python machine versions backend blas memory cache models advice".split()  # noqa: SIM905
    assert list(told) == expected
    assert {"blendin-mlx", "mlx", "mlx-lm", "transformers"} <= told["versions"].keys()
    assert told["cache"] == str(home)
    assert told["models"] == {NAMES[0]: f"blendin models pull {NAMES[0]}", NAMES[1]: "here"}
    assert isinstance(told["advice"], list)


def test_doctor_as_text(run, home):
    lines = run("doctor").text.splitlines()
    starts = {line.split()[0] for line in lines if not line.startswith(" ")}
    assert starts >= {"python", "versions", "backend", "blas", "memory", "cache", "advice"}
    models = lines[lines.index("models") + 1 :][:2]
    assert (
        len({line.index(word) for line, word in zip(models, ("blendin", "here"), strict=True)}) == 1
    )


def test_doctor_advises(run, monkeypatch):
    from blendin_cli import doctor

    versions = {"gguf": "not installed", "pip": "not installed"}
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, "1.0"))
    text = run("doctor").text
    assert "pip install gguf" in text
    assert "ensurepip" in text
