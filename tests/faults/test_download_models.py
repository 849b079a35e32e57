"""Real models on a loopback hub: refused before their weights, quantized, found, updated."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from blendin_cli.main import main
from blendin_models.catalogue import entries
from blendin_models.catalogue.entries import HubModel
from blendin_models.errors import ModelError
from blendin_models.fetching.resolve import locate, locate_all
from blendin_models.hub import client
from blendin_models.inventory import listing, lookup, removal, verification
from blendin_models.loading.preflight import inspect_located
from blendin_models.loading.quantize import Quantization, converted_bytes
from blendin_models.storage import paths
from hub_repo import Repo
from pulling import BASE, GUIDE
from tiny_folders import write_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def models(server, tmp_path):
    """Put the files of a model into each repo of the pair."""
    for seed, repo in enumerate((BASE, GUIDE), 1):
        folder = write_model(tmp_path / "made" / repo, seed)
        server.repos[repo] = Repo({path.name: path.read_bytes() for path in folder.iterdir()})
    return server.repos


def refused(*names: str) -> str:
    with pytest.raises(ModelError) as raised:
        locate_all(names, update=True)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def asked_for_weights(server) -> int:
    return server.asked(f"/{WEIGHTS}")


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_a_repo_without_a_required_file_is_refused_at_once(server, here, models, file):
    del models[GUIDE].files[file]
    said = f"{GUIDE} has no {file}, so it cannot be loaded; choose another repo"
    assert refused(BASE, GUIDE) == said
    assert server.asked("/resolve/") == 0


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("config.json", {"model_type": "nonesuch"}, "is of a 'nonesuch' model"),
        ("config.json", {"model_type": 3}, "has no model_type"),
        ("config.json", {"model_file": "evil.py"}, "asks to run the code in evil.py"),
        ("config.json", {"text_config": [1]}, "its text_config is not an object"),
        ("tokenizer.json", {"model": 1}, "is not a valid tokenizer"),
    ],
)
def test_an_unsupported_model_is_refused_before_its_weights_are_fetched(
    server, here, models, file, fields, said
):
    content = json.loads(models[GUIDE].files[file])
    models[GUIDE].files[file] = json.dumps({**content, **fields}).encode()
    line = refused(BASE, GUIDE)
    assert said in line
    assert "repair it" not in line  # fetching it again gives the same file
    assert asked_for_weights(server) == 0


def test_downloads_and_quantized_copies_must_fit_the_disk_together(
    server, here, models, monkeypatch
):
    """Each alone would fit. The base is quantized; the guide already is."""
    config = json.loads(models[GUIDE].files["config.json"])
    guide = {**models[GUIDE].files, "config.json": json.dumps({**config, "quantization": {}})}
    models[GUIDE] = Repo({**guide, "config.json": guide["config.json"].encode()})
    sizes = {repo: sum(map(len, models[repo].files.values())) for repo in (BASE, GUIDE)}
    weights = len(models[BASE].files[WEIGHTS])
    copy = converted_bytes(weights, sizes[BASE] - weights, Quantization())
    small = sum(sizes.values()) - weights - len(models[GUIDE].files[WEIGHTS])
    usage = SimpleNamespace(free=sum(sizes.values()) + copy - 1)

    def left(folder):  # the small files come first
        return SimpleNamespace(free=usage.free - (small if server.asked("GET /org/") else 0))

    monkeypatch.setattr(shutil, "disk_usage", left)
    line = refused(BASE, GUIDE)
    assert line.startswith(f"{BASE} and {GUIDE} and quantizing {BASE} need ")
    assert f"more in {here.cache} and {paths.models_folder()}, where " in line
    assert line.endswith("set another folder with HF_HOME and BLENDIN_HOME")
    assert asked_for_weights(server) == 0
    usage.free += 1
    assert [one.name for one in locate_all([BASE, GUIDE], update=True)] == [BASE, GUIDE]


def test_disk_space_counts_packaged_models_and_hub_models(server, here, models, monkeypatch):
    size = sum(map(len, models[BASE].files.values()))
    packaged = 3 * entries.models()["gemma-3-270m"].bytes
    free = SimpleNamespace(free=packaged + size // 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    monkeypatch.setattr(
        "blendin_models.fetching.resolve.install", lambda *a: pytest.fail("fetched")
    )
    assert refused("gemma-3-270m", BASE).startswith(f"gemma-3-270m and {BASE} need 0.")
    assert server.asked("/resolve/") == 0


@pytest.mark.parametrize(("bits", "group_size"), [(8, 32), (4, 64), (2, 128), (8, 64)])
def test_the_estimated_size_of_a_copy_suffices(tmp_path, bits, group_size):
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    layer = nn.Linear(1024, 1024, bias=False)
    layer.set_dtype(mx.bfloat16)
    before = sum(array.nbytes for _, array in tree_flatten(layer.parameters()))
    made = nn.QuantizedLinear.from_linear(layer, group_size, bits)
    after = sum(array.nbytes for _, array in tree_flatten(made.parameters()))
    assert after <= converted_bytes(before, 0, Quantization(bits, group_size)) <= 1.1 * after


def test_pull_fetches_a_newer_commit_and_loading_does_not(server, here, models):
    (first,) = locate_all([BASE], update=True)
    assert first.revision == models[BASE].commit
    models[BASE] = Repo({**models[GUIDE].files, "more.json": b"{}"})
    before = len(server.requests)
    assert locate(BASE) == first
    assert len(server.requests) == before
    (second,) = locate_all([BASE], update=True)
    assert second.revision == models[BASE].commit != first.revision
    assert locate(BASE) == second
    assert locate(f"{BASE}@{first.revision}").folder == first.folder
    assert locate_all([f"{BASE}@{first.revision}"], update=True)[0].folder == first.folder


def test_a_choice_of_bits_holds_for_newer_commits(server, here, models):
    locate_all([BASE], quantization=Quantization(8, 32), update=True)
    models[BASE] = Repo({**models[BASE].files, "more.json": b"{}"})
    (found,) = locate_all([BASE], update=True)
    assert found.revision == models[BASE].commit
    assert found.folder.name.endswith("-8bit-g32")


def test_pull_of_the_newest_commit_fetches_nothing(server, here, models):
    locate_all([BASE], update=True)
    before = server.asked("/resolve/")
    locate_all([BASE], update=True)
    assert server.asked("/resolve/") == before


def test_pull_without_network_uses_the_local_copy(server, here, models, monkeypatch, caplog):
    (first,) = locate_all([BASE], update=True)
    server.fault("503", for_ever=True)
    assert locate_all([BASE], update=True) == [first]
    assert "answered with an error (503)" in caplog.text
    assert "the local copy is used" in caplog.text
    caplog.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate_all([BASE], update=True) == [first]
    assert caplog.text == ""


def test_a_quantized_copy_suffices_without_the_hubs_cache(server, here, models, monkeypatch):
    (first,) = locate_all([BASE], update=True)
    shutil.rmtree(here.cache)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate(BASE) == first
    assert lookup.used(BASE).folder == first.folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert locate_all([BASE], update=True) == [first]  # the hub is asked, nothing is fetched
    assert not here.cache.exists()


def test_lookup_names_the_copy_that_loading_uses(server, here, models):
    for bits in (4, 8):
        (found,) = locate_all([BASE], quantization=Quantization(bits, 32))
        assert lookup.used(BASE).folder == found.folder != client.kept(BASE)
    models[BASE] = Repo({**models[BASE].files, "more.json": b"{}"})
    (found,) = locate_all([BASE], update=True)
    assert lookup.used(BASE).folder == found.folder == locate(BASE).folder


def test_a_damaged_copy_is_quantized_again_without_a_download(server, here, models):
    (found,) = locate_all([BASE], update=True)
    weights = found.folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ModelError) as raised:
        inspect_located(found)
    name = found.folder.name
    commands = f"blendin models remove {name} && blendin models pull {BASE}"
    assert str(raised.value).endswith(f"; repair it: {commands}")
    before = server.asked("/resolve/")
    list(removal.remove(name))
    (again,) = locate_all([BASE], update=True)
    inspect_located(again)
    assert server.asked("/resolve/") == before


def test_a_fault_of_the_repo_itself_is_not_to_be_repaired(server, here, models):
    config = json.loads(models[BASE].files["config.json"])
    wrong = {**config, "quantization": {"bits": 4, "group_size": 64}, "hidden_size": 64}
    models[BASE].files["config.json"] = json.dumps(wrong).encode()
    (found,) = locate_all([BASE], update=True)
    with pytest.raises(ModelError, match="does not fit the weights") as raised:
        inspect_located(found)
    assert str(raised.value).endswith(f"; compare it with the hub: blendin models verify {BASE}")
    verification.require_whole(BASE, verification.verify(BASE))


def test_one_repo_by_two_names_is_fetched_once(server, here, models, monkeypatch):
    entry = HubModel(name="mine", license="MIT", tokenizer="t", parameters=1, bytes=4, repo=BASE)
    monkeypatch.setattr("blendin_models.catalogue.entries.models", lambda: {"mine": entry})
    told = []
    one, other = locate_all(["mine", BASE], lambda *step: told.append(step), update=True)
    assert one.folder == other.folder
    size = sum(map(len, models[BASE].files.values()))
    assert {total for what, _, total in told if what == "base"} == {size}


def test_a_partly_fetched_repo_is_shown_as_incomplete(server, here, models):
    server.fault("404", of=f"GET /{BASE}/resolve/{models[BASE].commit}/{WEIGHTS}", for_ever=True)
    refused(BASE)
    (kept,) = listing.snapshots()
    assert (kept.name, kept.problem) == (BASE, f"it lacks {WEIGHTS}")
    with pytest.raises(ModelError, match=f"{WEIGHTS} is missing; repair it: "):
        verification.require_whole(BASE, verification.verify(BASE))
    assert [name for name, _ in removal.remove(BASE)] == [BASE]
    assert listing.everything() == []


def verified(trace, capsys, *options: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["trace", "verify", "-q", *options, str(trace)])
    return leaving.value.code, capsys.readouterr().err  # type: ignore[return-value]


def test_the_models_of_a_stranger_s_trace_are_fetched_only_with_pull(
    server, here, models, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    trace = tmp_path / "stranger.jsonl"
    named = {"base": {"name": BASE}, "aligned": {"name": GUIDE, "path": "/nowhere"}}
    records = {"type": "run", "models": named}, {"type": "step"}
    trace.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, said = verified(trace, capsys)
    assert (code, server.requests) == (3, [])
    assert f"needs {BASE} and {GUIDE}, missing on this machine" in said
    assert "--pull" in said
    _, said = verified(trace, capsys, "--pull")  # it goes on to what the trace lacks
    assert "the trace lacks or garbles a value" in said
    before = len(server.requests)
    _, said = verified(trace, capsys)
    assert "the trace lacks or garbles a value" in said
    assert len(server.requests) == before
