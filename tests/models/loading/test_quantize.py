"""An unquantized model is quantized to a new folder, atomically."""

from __future__ import annotations

import json

import numpy as np
import pytest

from blendin_mlx.backend.mlx import mx
from blendin_models.errors import ModelError
from blendin_models.loading.config_json import is_quantized
from blendin_models.loading.quantize import Quantization, convert
from blendin_models.storage import manifest, paths
from blendin_models.storage.manifest import Manifest
from tiny_folders import load_model, write_model

RECORD = Manifest("someone/model", "abc")


@pytest.fixture
def source(tmp_path):
    folder = write_model(tmp_path / "source", 1)
    (folder / "evil.py").write_text("raise SystemExit")
    return folder


def logits(folder):
    model = load_model(folder)
    row = model.network(mx.array([[5, 6, 7]]))[0, -1].astype(mx.float32)
    return np.array(row)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32])
def test_a_quantized_copy_has_nearly_the_same_logits(source, tmp_path, bits, group_size):
    target, seen = tmp_path / "out", []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    convert(source, target, Quantization(bits, group_size), RECORD, progress)
    config = json.loads((target / "config.json").read_text())
    assert config["quantization"]["bits"] == bits
    assert config["quantization"]["group_size"] == group_size
    assert is_quantized(target)
    assert not is_quantized(source)
    whole, small = logits(source), logits(target)
    assert np.corrcoef(whole, small)[0, 1] > (0.999 if bits == 8 else 0.9)
    assert np.abs(whole - small).max() > 0  # it was quantized
    assert seen[-1][0] == seen[-1][1] > 0
    assert seen == sorted(seen)


def test_the_copy_is_a_model_with_a_manifest_and_no_code(source, tmp_path):
    convert(source, tmp_path / "out", Quantization(4, 32), RECORD)
    assert paths.looks_like_model(tmp_path / "out")
    assert manifest.problems(tmp_path / "out") == []
    assert manifest.read(tmp_path / "out").source == "someone/model"
    assert not list((tmp_path / "out").glob("*.py"))
    assert (tmp_path / "out" / "tokenizer_config.json").exists()


def test_nothing_is_printed(source, tmp_path, capfd):
    convert(source, tmp_path / "out", Quantization(4, 32), RECORD)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(source, tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(manifest, "write", fail)
    with pytest.raises(ModelError if isinstance(error, OSError) else KeyboardInterrupt):
        convert(source, tmp_path / "out", Quantization(4, 32), RECORD)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("options", [{"bits": 7}, {"bits": 0}, {"group_size": 48}])
def test_other_quantizations_are_refused(options):
    with pytest.raises(ValueError, match="must be one of"):
        Quantization(**options)
