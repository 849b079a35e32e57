"""Adapters on the command line: every command that loads a pair takes them."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from blendin_cli.diagnosis import guides
from blendin_cli.main import cli
from blendin_cli.options.groups import blend_options
from blendin_cli.options.settings import Settings
from blendin_models import PairSpec
from blendin_models.catalogue import entries
from tiny_adapters import write_adapter, write_fused
from tiny_folders import write_model

COMMANDS = ["chat", "generate", "run", "compare", "diagnose", "tune", "score", "serve", "bench"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model", 1)


@pytest.fixture(scope="module")
def adapter(model) -> Path:
    return write_adapter(model.parent / "lora", model)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_load_a_pair_take_adapters(command):
    options = {option for one in cli.commands[command].params for option in one.opts}
    assert {"--base-adapter", "--aligned-adapter"} <= options


def test_the_base_with_an_adapter_is_the_guide(run, model, adapter, tmp_path):
    fused = write_fused(tmp_path / "fused", model, adapter)
    options = "-m", 12, "--json", "the cat"
    own, theirs = (
        json.loads(run("generate", "--base", model, *guide, *options).text)
        for guide in (["--aligned-adapter", adapter], ["--aligned", fused])
    )
    assert own["models"] == {"base": "model", "aligned": "model+lora"}
    assert own["text"] == theirs["text"]
    assert own["blend"]["interventions"] > 0


def test_without_other_names_the_guide_is_the_default_pairs_base(
    run, tiny_demo, tmp_path, monkeypatch
):
    monkeypatch.setenv("BLENDIN_HOME", str(tiny_demo))
    name = entries.find_pair("demo").base
    adapter = write_adapter(tmp_path / "own", tiny_demo / "models" / name)
    template = tmp_path / "template.jinja"  # this base has none
    template.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    options = "--aligned-adapter", adapter, "-m", 2, "hi"
    refused = run("generate", *options)
    assert refused.code == 4
    assert f"{name}+own has no chat template" in refused.error()
    result = run("generate", "--json", "--aligned-template", template, *options)
    assert json.loads(result.text)["models"] == {"base": name, "aligned": f"{name}+own"}


def test_an_adapter_alone_does_not_name_a_pair(run, model, adapter):
    result = run("generate", "--base", model, "--base-adapter", adapter, "hi")
    assert result.code == 2
    assert "--aligned" in result.err


def test_a_trace_is_verified_with_its_adapter(run, model, adapter, tmp_path):
    own = write_adapter(tmp_path / "own", model, seed=5)
    trace = tmp_path / "run.jsonl"
    pair = "--base", model, "--base-adapter", adapter, "--aligned-adapter", own
    assert run("generate", *pair, "--trace", trace, "-m", 8, "the cat").code == 0
    first = json.loads(trace.read_text().splitlines()[0])
    assert first["models"]["aligned"]["adapter"]["path"] == str(own)
    assert first["models"]["base"]["adapter"]["path"] == str(adapter)
    assert run("trace", "verify", trace).code == 0
    config = own / "adapter_config.json"
    config.write_text(config.read_text() + " ")
    changed = run("trace", "verify", trace)
    assert changed.code == 3
    assert "changed since" in changed.error()
    config.unlink()
    assert run("trace", "verify", trace).code == 3


def test_a_pair_of_ones_own_may_name_adapters(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_CONFIG", str(tmp_path))
    (tmp_path / "pairs").mkdir()
    text = """
    [pairs.mine]
    description = "a base and what it was trained to"
    base = "gemma-3-270m"
    aligned = "gemma-3-270m"
    aligned_adapter = "/adapters/chat"
    """
    file = tmp_path / "pairs" / "mine.toml"
    file.write_text(text)
    entries._catalogue.cache_clear()
    own, other = Path("/adapters/chat"), Path("/adapters/other")
    name = "gemma-3-270m"
    assert PairSpec(pair="mine").parts() == ((name, None), (name, own))
    both = PairSpec(pair="mine", base_adapter=other)
    assert both.parts() == ((name, other), (name, own))
    assert PairSpec(pair="mine", aligned="x").parts() == ((name, None), ("x", None))
    assert PairSpec(pair="mine", aligned_adapter=other).parts() == ((name, None), (name, other))
    file.write_text(text.replace("/adapters", "adapters"))
    entries._catalogue.cache_clear()
    with pytest.raises(Exception, match="must be absolute"):
        entries.pairs()
    monkeypatch.undo()
    entries._catalogue.cache_clear()


@click.command()
@blend_options
def probe(settings: Settings) -> Settings:
    """Return the settings of a command line."""
    return settings


def test_guides_with_and_without_an_adapter_are_two(model, adapter):
    options = ["--base", str(model), "--aligned-adapter", str(adapter)]
    with probe.make_context("diagnose", options) as ctx:
        settings = ctx.invoke(probe, **ctx.params)
    found = guides.find(settings, [str(model), str(model)], quiet=True)
    assert [one.name for one in found] == ["model+lora", "model"]
    assert found[1].settings.aligned_adapter is None
