"""Damaged adapters and those of other models end in one line and the right exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_cli.errors import explain
from blendin_mlx.backend.mlx import mx
from blendin_mlx.errors import BlendinError
from blendin_models.errors import ModelError
from blendin_models.loading.adapters import read_adapter
from blendin_models.pair import PairSpec, check_pair, open_pair
from tiny_adapters import CONFIG, WEIGHTS, write_adapter
from tiny_folders import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model", 1)


@pytest.fixture
def adapter(model, tmp_path) -> Path:
    return write_adapter(tmp_path / "adapter", model)


def with_config(lora=None, **changes):
    def change(folder: Path) -> None:
        file = folder / CONFIG
        config = json.loads(file.read_text())
        parameters = {**config["lora_parameters"], **(lora or {})}
        file.write_text(json.dumps({**config, "lora_parameters": parameters, **changes}))

    return change


def written(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes(data)


def without(name: str):
    return lambda folder: (folder / name).unlink()


def without_num_layers(folder: Path) -> None:
    file = folder / CONFIG
    config = json.loads(file.read_text())
    del config["num_layers"]
    file.write_text(json.dumps(config))


def with_weights(change):
    def changed(folder: Path) -> None:
        weights = dict(mx.load(str(folder / WEIGHTS)))
        change(weights, sorted(weights)[0])
        mx.save_safetensors(str(folder / WEIGHTS), weights)

    return changed


def nan(weights, name):
    weights[name] = mx.where(mx.arange(weights[name].size).reshape(weights[name].shape) == 5,
                             float("nan"), weights[name])  # fmt: skip


def renamed(weights, name):
    weights[f"model.layers.9.{name}"] = weights.pop(name)


def narrow(weights, name):
    weights[name] = weights[name][:-1]


def lacking(weights, name):
    del weights[name]


def whole_numbers(weights, name):
    weights[name] = weights[name].astype(mx.int32)


def with_embedding(weights, name):  # not one of what the config adapts
    weights["model.embed_tokens.weight"] = mx.zeros((300, 32))


def cut(folder: Path) -> None:
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])


def pipe(name: str):
    def make(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def device(name: str):
    def make(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")

    return make


DAMAGED = [
    (without(CONFIG), CONFIG),
    (without(WEIGHTS), WEIGHTS),
    (written(CONFIG, b"{"), "not valid JSON"),
    (written(CONFIG, b"[" * 100_000), "not valid JSON"),
    (written(CONFIG, b"[]"), "not a JSON object"),
    (written(CONFIG, b"\xff{}"), "not valid JSON"),
    (written(CONFIG, b" " * 10_000_001), "too large"),
    (written(WEIGHTS, b""), "is empty"),
    (written(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"), "git-lfs pointer"),
    (cut, "truncated"),
    (pipe(CONFIG), "is a pipe"),
    (pipe(WEIGHTS), "is a pipe"),
    (device(CONFIG), "a device"),
    (device(WEIGHTS), "a device"),
    (without_num_layers, "num_layers is None"),
    (with_config(num_layers=True), "num_layers is True"),
    (with_config(num_layers="all"), "num_layers is 'all'"),
    (with_config(lora_parameters=[1]), "lora_parameters is [1]"),
    (with_config(lora={"rank": 0}), "rank is 0"),
    (with_config(lora={"rank": 10**30}), "rank is 1000"),
    (with_config(lora={"rank": 2.0}), "rank is 2.0"),
    (with_config(lora={"scale": None}), "scale is None"),
    (with_config(lora={"scale": float("nan")}), "scale is nan"),
    (with_config(lora={"scale": 10**400}), "scale is 1000"),
    (with_config(lora={"keys": "q_proj"}), "keys is 'q_proj'"),
    (with_config(lora={"keys": [1]}), "keys is [1]"),
    (with_config(fine_tune_type="vera"), "lora and dora are known"),
    (with_config(fine_tune_type=[]), "lora and dora are known"),
    (with_config(fine_tune_type="full"), "mlx_lm.fuse"),
    (with_config(peft_type="LORA"), "PEFT"),
    (with_weights(nan), "not finite"),
    (with_weights(whole_numbers), "of type I32"),
]
FOREIGN = [
    (with_weights(renamed), "model.layers.9."),
    (with_weights(narrow), "has the shape"),
    (with_weights(lacking), "it has no"),
    (with_weights(with_embedding), "model.embed_tokens.weight"),
    (with_config(lora={"rank": 3}), "has the shape"),
    (with_config(num_layers=1), "model.layers.0."),
    (with_config(lora={"keys": ["self_attn.q_proj"]}), "is not one of the layers"),
    (with_config(lora={"keys": ["", "self_attn"]}), "does not belong to"),
    (with_config(fine_tune_type="dora"), "it has no 'model.layers.0."),
]


def refusal(model: Path, **adapters: Path) -> tuple[int, str]:
    """The exit code and the line that a pair with this adapter ends in."""
    aligned = str(model) if "base_adapter" in adapters else None
    with pytest.raises(BlendinError) as raised:
        open_pair(check_pair(PairSpec(base=str(model), aligned=aligned, **adapters)))
    line, code = explain(raised.value)
    assert "\n" not in line
    return code, line


@pytest.mark.parametrize(("damage", "named"), DAMAGED)
@pytest.mark.parametrize("role", ["aligned_adapter", "base_adapter"])
def test_a_damaged_adapter_is_named(model, adapter, damage, named, role):
    damage(adapter)
    code, line = refusal(model, **{role: adapter})
    assert code == 3
    assert named in line
    assert str(adapter) in line
    assert "models remove" not in line  # the model is sound


@pytest.mark.parametrize(("damage", "named"), FOREIGN)
def test_an_adapter_of_another_model_is_named(model, adapter, damage, named):
    damage(adapter)
    code, line = refusal(model, aligned_adapter=adapter)
    assert code == 4
    assert named in line
    assert f"the adapter {adapter} does not belong to model: " in line


def test_keys_that_match_no_layer_are_named(model, tmp_path):
    keys = ["self_attn.q_proj", "self_attn.query"]
    adapter = write_adapter(tmp_path / "adapter", model, keys=keys)
    code, line = refusal(model, aligned_adapter=adapter)
    assert code == 4
    assert "its key 'self_attn.query' matches no layer" in line


def test_a_missing_folder_is_named(model, tmp_path):
    code, line = refusal(model, aligned_adapter=tmp_path / "none")
    assert code == 3
    assert f"there is no folder {tmp_path / 'none'}" in line


def test_nothing_is_fetched_for_a_damaged_adapter(adapter, monkeypatch):
    def fetch(*_):
        raise AssertionError("a model was fetched")

    monkeypatch.setattr("blendin_models.pair.locate_all", fetch)
    cut(adapter)
    with pytest.raises(ModelError, match="truncated"):
        check_pair(PairSpec(base="owner/name", aligned_adapter=adapter))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["num_layers", "lora_parameters", "fine_tune_type", "rank", "scale", "keys"]
)


@given(
    st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON), max_size=6),
)
def test_any_config_is_read_or_refused(tmp_path_factory, model, config):
    folder = tmp_path_factory.mktemp("any")
    mx.save_safetensors(str(folder / WEIGHTS), {"a.lora_a": mx.zeros((3, 2))})
    (folder / CONFIG).write_text(json.dumps(config))
    try:
        rank, line = read_adapter(folder).rank, str(folder)
    except ModelError as error:
        rank, line = 1, str(error)
    assert 1 <= rank <= 3
    assert str(folder) in line
    assert "\n" not in line
