"""Loading a model folder into memory."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys

import pytest

from blendin_mlx.backend.mlx import is_cpu, mx
from blendin_models.errors import ModelError
from blendin_models.loading import loader
from tiny_folders import load_model, write_model


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model", 1)


def change(folder, file, **entries):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_loading_reads_all_weights_and_reports_progress(folder):
    seen = []
    model = load_model(folder, "mine", "r1", lambda *told: seen.append(told))
    assert (model.name, model.path, model.revision) == ("mine", str(folder), "r1")
    whats, done, totals = zip(*seen, strict=True)
    assert set(whats) == {"loading mine"}
    assert list(done) == sorted(done)
    assert done[-1] == totals[0] == totals[-1]
    assert totals[0] >= (folder / "model.safetensors").stat().st_size // 2
    (folder / "model.safetensors").unlink()  # the weights are in memory
    assert model.network(mx.array([[5, 6]])).shape == (1, 2, 300)


def test_the_default_name_is_the_folders(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_model(folder).name == "model"
    assert load_model(folder.__class__(".")).name == "model"


@pytest.mark.skipif(not is_cpu(), reason="elsewhere weights stay as they are")
def test_quantized_weights_become_float32_on_a_cpu(folder):
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    model = load_model(folder).network
    plain = model(mx.array([[5, 6]]))
    nn.quantize(model, group_size=32, bits=8, class_predicate=_fits_groups)
    model.set_dtype(mx.float16)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    change(folder, "config.json", quantization={"group_size": 32, "bits": 8})
    loaded = load_model(folder).network
    assert {array.dtype for _, array in tree_flatten(loaded.parameters())} == {mx.float32}
    assert mx.abs(loaded(mx.array([[5, 6]])) - plain).max() < 0.05 * mx.abs(plain).max()


def _fits_groups(path, module):
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % 32 == 0


@pytest.fixture
def sentinel(folder):
    """Write code to the model's folder that leaves a trace if it runs."""
    told = folder / "it-ran"
    code = f"open({str(told)!r}, 'w').close()\n"
    for file in ("modeling_tiny.py", "tokenization_tiny.py", "__init__.py", "llama.py"):
        (folder / file).write_text(code)
    return told


def test_a_model_file_is_refused_and_never_run(folder, sentinel):
    change(folder, "config.json", model_file="modeling_tiny.py")
    with pytest.raises(ModelError, match=r"asks to run the code in modeling_tiny\.py"):
        load_model(folder)
    assert not sentinel.exists()


@pytest.mark.parametrize("tokenizer_class", ["PreTrainedTokenizerFast", "TinyTokenizer"])
def test_an_auto_map_is_never_run(folder, sentinel, tokenizer_class):
    maps = {"AutoModelForCausalLM": "modeling_tiny.T", "AutoConfig": "modeling_tiny.C"}
    change(folder, "config.json", auto_map=maps, model_type="llama")
    tokenizers = {"AutoTokenizer": ["tokenization_tiny.T", "tokenization_tiny.T"]}
    change(folder, "tokenizer_config.json", auto_map=tokenizers, tokenizer_class=tokenizer_class)
    with contextlib.suppress(ModelError):  # it may load or be refused
        load_model(folder)
    assert not sentinel.exists()


def test_pickles_are_not_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"it lacks model\*\.safetensors"):
        load_model(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(ModelError, match="there is no folder"):
        load_model(tmp_path / "none")


def test_missing_weights_are_named(folder):
    weights = mx.load(str(folder / "model.safetensors"))
    del weights["lm_head.weight"]
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    with pytest.raises(ModelError, match="Missing 1 parameters") as raised:
        load_model(folder)
    assert "\n" not in str(raised.value)


LOWERED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
system = resource.setrlimit
def ordinary(which, limits):  # root may raise the hard limit, the user in question may not
    if limits[1] > resource.getrlimit(which)[1]:
        raise ValueError("not allowed to raise maximum limit")
    system(which, limits)
resource.setrlimit = ordinary
from pathlib import Path
from blendin_models.loading.loader import open_model, read_weights
read_weights(open_model(Path({folder!r})))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_models_load_where_the_hard_limit_is_low(folder):
    """mlx-lm asks for (2048, 4096) open files, and users may not raise the hard limit."""
    code = LOWERED.format(folder=str(folder))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout == "1024 1024\n", told.stderr


def test_a_refused_limit_is_ignored(monkeypatch):
    def refused(which, limits):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refused)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 4096))
    with loader.open_files_limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 4096))
    assert resource.setrlimit is refused
