"""Split GGUF files are joined; an output matrix that is stored twice becomes one."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from mlx_lm.utils import load_model

from blendin_models.errors import ModelError
from blendin_models.fetching.pip_packages import import_file
from blendin_models.gguf.file import read_gguf
from blendin_models.gguf.importer import import_gguf
from blendin_models.gguf.split import parts, read_model, stem
from blendin_models.gguf.tied import tied
from gguf_samples import (
    gguf_name,
    gguf_values,
    logits,
    tiny_config,
    tiny_model,
    weights_of,
    write_model,
    write_settings,
    write_tokenizer,
)

Q = gguf.GGMLQuantizationType
IDS = [3, 1, 4, 15, 9, 26]
CONFIG = tiny_config("llama", hidden=64)


def write_parts(folder: Path, count: int = 3, total: int | None = None) -> tuple[list[Path], dict]:
    """Write a llama model with its tensors dealt out to parts; return the parts and weights."""
    weights = weights_of(tiny_model(CONFIG))
    names = sorted(weights)
    files = []
    for number in range(count):
        files.append(folder / f"m-{number + 1:05}-of-{count:05}.gguf")
        writer = gguf.GGUFWriter(files[-1], "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(names) if total is None else total)
        if number == 0:
            write_settings(writer, CONFIG)
            write_tokenizer(writer)
        for name in names[number::count]:
            values = gguf_values(name, weights[name], "llama", CONFIG)
            writer.add_tensor(gguf_name(name, "llama"), values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return files, weights


@pytest.mark.parametrize("named", [0, 1])
def test_parts_that_lie_together_are_one_model(tmp_path, named):
    files, weights = write_parts(tmp_path)
    whole = write_model(tmp_path / "whole.gguf", "llama", CONFIG, weights)
    for source, target in ((files[named], "joined"), (whole, "single")):
        import_gguf(source, tmp_path / target)
    joined, single = (load_model(tmp_path / name)[0] for name in ("joined", "single"))
    assert np.array_equal(logits(joined, IDS), logits(single, IDS))


def test_a_split_model_is_kept_by_the_name_of_all_its_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    files, _ = write_parts(tmp_path)
    assert stem(files[1]) == "m"
    assert parts(files[1]) == files
    assert (import_file(files[2], "m") / "model.safetensors").is_file()


def refusal(file: Path) -> str:
    with pytest.raises(ModelError) as error:
        read_model(file)
    assert "\n" not in str(error.value)
    assert str(file.parent) in str(error.value)
    return str(error.value)


def test_missing_parts_are_named(tmp_path):
    files, _ = write_parts(tmp_path)
    files[0].unlink()
    files[2].unlink()
    said = refusal(files[1])
    assert "one of 3 parts" in said
    assert f"{files[0].name}, {files[2].name} must be in the same folder" in said


def test_a_renamed_part_is_refused_with_the_names_expected(tmp_path):
    files, _ = write_parts(tmp_path)
    renamed = files[0].rename(tmp_path / "model.gguf")
    assert "one of 3 parts of a GGUF model; their names must end in" in refusal(renamed)


def test_parts_of_another_model_are_refused(tmp_path):
    files, _ = write_parts(tmp_path)
    files[1].write_bytes(files[2].read_bytes())
    assert "not part 2 of the model" in refusal(files[0])


def test_parts_that_lack_tensors_are_refused(tmp_path):
    files, _ = write_parts(tmp_path, total=99)
    assert "not 99" in refusal(files[0])


def stored_twice(path: Path, kind: Q, output_kind: Q, change=None) -> Path:  # type: ignore[valid-type]
    """Write a qwen2 model with its embedding as ``kind``, and again as the output matrix."""
    config = tiny_config("qwen2", hidden=64)
    weights = weights_of(tiny_model(config))
    embedding = weights.pop("model.embed_tokens.weight")
    output = embedding if change is None else change(embedding.copy())
    writer = gguf.GGUFWriter(path, "qwen2")
    write_settings(writer, config)
    write_tokenizer(writer)
    for name, values in weights.items():
        writer.add_tensor(gguf_name(name, "qwen2"), values)
    for name, values, stored in (("token_embd", embedding, kind), ("output", output, output_kind)):
        packed = gguf.quants.quantize(values, stored)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("kind", "output_kind", "kept"),
    [
        (Q.Q8_0, Q.Q8_0, Q.Q8_0),
        (Q.Q5_0, Q.Q8_0, Q.Q8_0),
        (Q.F16, Q.Q4_0, Q.F16),
        (Q.F32, Q.F16, Q.F32),
    ],
)
def test_an_embedding_that_is_stored_twice_is_kept_once(tmp_path, kind, output_kind, kept):
    source = stored_twice(tmp_path / "m.gguf", kind, output_kind)
    assert tied(read_gguf(source)).tensors["token_embd.weight"].type == kept
    import_gguf(source, tmp_path / "m")
    model, config = load_model(tmp_path / "m")
    assert config["tie_word_embeddings"] is True
    assert "lm_head" not in model


def one_row_apart(embedding: np.ndarray) -> np.ndarray:
    embedding[7] = -embedding[7]
    return embedding


@pytest.mark.parametrize(
    ("kind", "output_kind"), [(Q.Q5_0, Q.Q8_0), (Q.F32, Q.F32), (Q.F16, Q.Q4_0)]
)
def test_an_output_matrix_of_its_own_stays(tmp_path, kind, output_kind):
    source = stored_twice(tmp_path / "m.gguf", kind, output_kind, one_row_apart)
    assert "output.weight" in tied(read_gguf(source)).tensors
    import_gguf(source, tmp_path / "m")
    assert load_model(tmp_path / "m")[1]["tie_word_embeddings"] is False
