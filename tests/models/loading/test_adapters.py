"""Adapters: what mlx-lm would compute, on the arrays of the plain model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_adapters, load_model

from blendin_mlx import generate, make_prompt_cache, stream_generate
from blendin_mlx.backend.mlx import mx
from blendin_mlx.errors import PairError, PromptCacheError
from blendin_mlx.model import LanguageModel
from blendin_mlx.prompt_cache import fingerprint, load_prompt_cache, save_prompt_cache
from blendin_models import PairSpec, load_pair
from blendin_models.loading import loader
from blendin_models.loading.adapters import adapted, read_adapter, sharing_copy
from blendin_models.loading.loader import open_model
from blendin_models.loading.memory import need
from blendin_models.loading.quantize import Quantization, convert
from blendin_models.pair import check_pair, open_pair
from blendin_models.pass_costs import _key
from blendin_models.storage.manifest import Manifest
from tiny import network
from tiny_adapters import CONFIG, WEIGHTS, write_adapter, write_fused
from tiny_folders import write_model

IDS = mx.array([[7, 30, 211, 7, 99]])
PROMPT = "the cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("adapters") / "model", 1)


@pytest.fixture(scope="module")
def adapter(folder) -> Path:
    return write_adapter(folder.parent / "lora", folder)


def arrays(model: LanguageModel) -> dict[int, str]:
    """The names of a model's arrays by their identity."""
    return {id(array): name for name, array in tree_flatten(model.network.parameters())}


KINDS: list[dict[str, Any]] = [
    {"kind": "lora"},
    {"kind": "dora"},
    {"kind": "lora", "num_layers": 1, "rank": 2, "scale": -3.5},
    {"kind": "lora", "keys": ["self_attn.q_proj", "mlp.up_proj", "lm_head"]},
    {"kind": "dora", "keys": ["self_attn.v_proj", "lm_head"]},
    {"kind": "lora", "keys": ["model.embed_tokens"]},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_logits_are_mlx_lms(tmp_path, architecture, options):
    folder = write_model(tmp_path / "model", 1, architecture=architecture)
    adapter = write_adapter(tmp_path / "adapter", folder, **options)
    plain = open_model(folder)
    before = plain.network(IDS)
    own = adapted(plain, read_adapter(adapter)).network(IDS)
    theirs = load_adapters(load_model(folder)[0], str(adapter))
    theirs.eval()  # as mlx_lm.load does: no dropout
    assert mx.allclose(own, theirs(IDS), rtol=1e-4, atol=1e-4)
    assert not mx.allclose(own, before, atol=0.01)
    assert mx.array_equal(plain.network(IDS), before)


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("dequantizes", [True, False])
def test_a_quantized_base_is_adapted(tmp_path, folder, monkeypatch, kind, dequantizes):
    monkeypatch.setattr(loader, "is_cpu", lambda: dequantizes)
    convert(folder, tmp_path / "q", Quantization(8, 32), Manifest("test"))
    adapter = write_adapter(tmp_path / "adapter", tmp_path / "q", kind=kind)
    plain = open_model(tmp_path / "q")
    own = adapted(plain, read_adapter(adapter))
    theirs = load_adapters(load_model(tmp_path / "q")[0], str(adapter))
    theirs.eval()
    assert mx.allclose(own.network(IDS), theirs(IDS), rtol=1e-3, atol=1e-3)
    assert set(arrays(plain)) <= set(arrays(own))
    quantized = [name for name in arrays(own).values() if name.endswith("scales")]
    assert bool(quantized) != dequantizes


def test_all_arrays_of_the_model_are_shared(folder, adapter):
    plain = open_model(folder)
    both = adapted(plain, read_adapter(adapter))
    own = set(arrays(both)) - set(arrays(plain))
    assert set(arrays(plain)) <= set(arrays(both))
    assert len(own) == len(read_adapter(adapter).tensors)
    assert {arrays(both)[one].rpartition(".")[2] for one in own} == {"lora_a", "lora_b"}


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3_text", "mamba2", "falcon_h1"])
def test_a_copy_shares_its_arrays_and_says_the_same(architecture):
    plain = network(architecture, 301, seed=1, sharpness=2.0)
    copied = sharing_copy(plain)
    one, two = (dict(tree_flatten(net.parameters())) for net in (plain, copied))
    assert one.keys() == two.keys()
    assert all(one[name] is two[name] for name in one)
    modules = [{id(module) for _, module in net.named_modules()} for net in (plain, copied)]
    assert not modules[0] & modules[1]
    assert mx.array_equal(plain(IDS), copied(IDS))


def test_a_guide_that_is_the_base_with_an_adapter(folder, adapter):
    pair = load_pair(base=str(folder), aligned_adapter=adapter)
    assert pair.base.name == "model"
    assert pair.aligned.name == "model+lora"
    assert pair.base.adapter is None
    assert pair.aligned.adapter is not None
    assert pair.aligned.adapter.path == str(adapter)
    assert set(arrays(pair.base)) <= set(arrays(pair.aligned))
    assert pair.projection().identity


def test_both_with_adapters_of_one_model(folder, adapter, tmp_path):
    other = write_adapter(tmp_path / "other", folder, kind="dora", seed=4)
    pair = load_pair(
        base=str(folder), base_adapter=other, aligned=str(folder), aligned_adapter=adapter
    )
    shared = set(arrays(pair.base)) & set(arrays(pair.aligned))
    assert len(shared) == len(arrays(open_model(folder)))
    # An adapter of the base is not the guide's, too.
    alone = load_pair(base=str(folder), aligned_adapter=adapter)
    assert mx.array_equal(pair.aligned.network(IDS), alone.aligned.network(IDS))
    plain = load_pair(base=str(folder), base_adapter=other, aligned=str(folder))
    assert plain.aligned.adapter is None
    assert mx.array_equal(plain.aligned.network(IDS), alone.base.network(IDS))


def test_memory_counts_the_model_once(folder, adapter):
    plain, both = (
        check_pair(PairSpec(base=str(folder), aligned=str(folder), aligned_adapter=one))
        for one in (None, adapter)
    )
    added = sum(tensor.end - tensor.begin for tensor in read_adapter(adapter).tensors.values())
    needs = [need(checked.reports, 100) for checked in (plain, both)]
    assert needs[1].weights - needs[0].weights == added
    assert needs[1].caches == needs[0].caches


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("method", ["blendin", "nudging", "aligned", "kad"])
def test_the_answer_is_that_of_the_fused_guide(folder, tmp_path, kind, method):
    adapter = write_adapter(tmp_path / "adapter", folder, kind=kind)
    fused = write_fused(tmp_path / "fused", folder, adapter)
    pairs = [
        load_pair(base=str(folder), aligned_adapter=adapter),
        load_pair(base=str(folder), aligned=str(fused)),
    ]
    steps = [
        [piece.step for r in stream_generate(pair, PROMPT, method=method, max_tokens=40)
         for piece in r.pieces]
        for pair in pairs
    ]  # fmt: skip
    assert [step.id for step in steps[0]] == [step.id for step in steps[1]]
    assert min(step.gap for step in steps[0]) > 1e-4  # no near-tie decided


@pytest.mark.parametrize("method", ["blendin", "fixed", "nudging", "ensemble", "kad"])
def test_an_adapter_that_changes_nothing_gives_the_base(folder, tmp_path, method):
    adapter = write_adapter(tmp_path / "zero", folder, size=0.0)
    # What both read is the same, too: the identity is that of the distributions.
    pair = load_pair(base=str(folder), aligned_adapter=adapter)
    from blendin_mlx import build_prompt
    from blendin_mlx.prompts import PairPrompt

    read = build_prompt(pair, PROMPT)
    prompt = PairPrompt(read.base, read.base, read.stops)
    base = generate(pair, prompt, method="base", max_tokens=40)
    assert generate(pair, prompt, method=method, max_tokens=40) == base


def test_dropout_is_of_training_only(folder, adapter):
    assert json.loads((adapter / CONFIG).read_text())["lora_parameters"]["dropout"] == 0.5
    model = adapted(open_model(folder), read_adapter(adapter))
    assert mx.array_equal(model.network(IDS), model.network(IDS))


def test_what_is_kept_by_model_differs_by_adapter(folder, adapter, tmp_path):
    plain = load_pair(base=str(folder), aligned=str(folder))
    pair = load_pair(base=str(folder), aligned_adapter=adapter)
    stronger = write_adapter(tmp_path / "stronger", folder, scale=8.5)
    other = load_pair(base=str(folder), aligned_adapter=stronger)
    pairs = plain, pair, other
    weights = [(one / WEIGHTS).read_bytes() for one in (adapter, stronger)]
    assert weights[0] == weights[1]  # only the scale differs
    assert len({fingerprint(one.aligned) for one in pairs}) == 3
    assert len({_key(one) for one in pairs}) == 3
    path = tmp_path / "cache.safetensors"
    cache = make_prompt_cache(pair)
    generate(pair, PROMPT, max_tokens=2, prompt_cache=cache)
    save_prompt_cache(path, cache)
    load_prompt_cache(path, pair)
    for one in (plain, other):
        with pytest.raises(PromptCacheError, match="another model"):
            load_prompt_cache(path, one)


def test_an_adapter_of_another_model_is_refused_before_weights_are_read(tmp_path, folder):
    other = write_model(tmp_path / "deep", 1, num_hidden_layers=2, intermediate_size=48)
    narrow = write_adapter(tmp_path / "narrow", other, num_layers=1)
    file = narrow / WEIGHTS
    weights: Any = mx.load(str(file))
    name = sorted(weights)[0]
    weights[name.replace("layers.1", "layers.7")] = weights.pop(name)
    mx.save_safetensors(str(file), weights)
    with pytest.raises(PairError, match=r"does not belong to model: .*layers\.7"):
        check_pair(PairSpec(base=str(folder), aligned_adapter=narrow))


def test_infinite_weights_are_found_when_the_pair_is_opened(tmp_path, folder, adapter):
    from blendin_models.errors import ModelError

    bad = write_adapter(tmp_path / "bad", folder)
    weights: Any = mx.load(str(bad / WEIGHTS))
    name = sorted(weights)[3]
    weights[name] = weights[name] * mx.array(float("nan"))
    mx.save_safetensors(str(bad / WEIGHTS), weights)
    checked = check_pair(PairSpec(base=str(folder), aligned_adapter=bad))
    with pytest.raises(ModelError, match=f"{name}.* not finite"):
        open_pair(checked)


def test_the_tokenizer_is_the_models(folder, adapter):
    model = open_model(folder)
    both = adapted(model, read_adapter(adapter))
    assert both.tokenizer is model.tokenizer
    assert replace(both, network=None, name="", adapter=None) == replace(
        model, network=None, name=""
    )
