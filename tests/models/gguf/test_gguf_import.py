"""import_gguf on whole models: same logits, clear refusals, atomic results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from mlx_lm.tokenizer_utils import load as load_tokenizer
from mlx_lm.utils import load_model

from blendin_models.errors import ModelError
from blendin_models.gguf.importer import import_gguf
from gguf_samples import (
    ARCHITECTURES,
    TOKENS,
    Weights,
    gguf_name,
    gguf_values,
    logits,
    tiny_config,
    tiny_model,
    weights_of,
    write_model,
)

Q = gguf.GGMLQuantizationType
IDS = [3, 1, 4, 15, 9, 26, 5, 35, 200, 131]


def random_weights(config: dict[str, Any]) -> Weights:
    return weights_of(tiny_model(config))


def imported(path: Path) -> tuple[Any, dict[str, Any]]:
    target = path.with_suffix("")
    import_gguf(path, target)
    return load_model(target)


def refusal(source: Path, target: Path) -> str:
    """Return the message of the ModelError; assert that it is one line and leaves no files."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(ModelError) as error:
        import_gguf(source, target)
    assert sorted(target.parent.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float_models_keep_their_logits(tmp_path: Path, architecture: str) -> None:
    config = tiny_config(architecture)
    model = tiny_model(config)
    path = write_model(tmp_path / "m.gguf", architecture, config, weights_of(model))
    loaded, read = imported(path)
    assert "quantization" not in read
    assert read["eos_token_id"] == [TOKENS.index("</s>")]
    np.testing.assert_allclose(logits(loaded, IDS), logits(model, IDS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q8_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_quantized_models_have_the_logits_of_their_dequantized_weights(
    tmp_path: Path, architecture: str, kind: gguf.GGMLQuantizationType
) -> None:
    config = tiny_config(architecture, hidden=64)
    weights = random_weights(config)
    path = write_model(tmp_path / "m.gguf", architecture, config, weights, kind)
    rounded = {
        name: gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
        if values.ndim == 2
        else values
        for name, values in weights.items()
    }
    loaded, read = imported(path)
    assert read["quantization"]["model.layers.1.mlp.down_proj"]["bits"] == int(kind.name[1])
    expected = logits(tiny_model(config, rounded), IDS)
    np.testing.assert_allclose(logits(loaded, IDS), expected, rtol=1e-3, atol=1e-3)


def test_llama_biases_are_put_in_order_too(tmp_path: Path) -> None:
    config = tiny_config("llama", attention_bias=True, mlp_bias=True)
    model = tiny_model(config)
    loaded, read = imported(write_model(tmp_path / "m.gguf", "llama", config, weights_of(model)))
    assert read["attention_bias"]
    assert read["mlp_bias"]
    np.testing.assert_allclose(logits(loaded, IDS), logits(model, IDS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("scaling", "fields"),
    [
        ({"type": "linear", "factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (
            {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
            {"type": "yarn", "factor": 4.0, "original_context_length": 16},
        ),
    ],
    ids=["linear", "yarn"],
)
def test_rope_scaling_is_kept(
    tmp_path: Path, scaling: dict[str, Any], fields: dict[str, Any]
) -> None:
    config = tiny_config("qwen3", rope_scaling=scaling)
    model = tiny_model(config)
    settings = {f"qwen3.rope.scaling.{key}": value for key, value in fields.items()}
    weights = {k: v for k, v in weights_of(model).items() if not k.endswith("_freqs")}
    path = write_model(tmp_path / "m.gguf", "qwen3", config, weights, fields=settings)
    loaded, _ = imported(path)
    np.testing.assert_allclose(logits(loaded, IDS), logits(model, IDS), rtol=1e-4, atol=1e-4)


def llama3_model(tmp_path: Path, factors: np.ndarray[Any, Any], **scaling: Any) -> Path:
    config = tiny_config("llama", hidden=80, num_attention_heads=4, rope_theta=500_000.0, **scaling)
    weights = {k: v for k, v in random_weights(config).items() if not k.endswith("_freqs")}
    extra = {"rope_freqs.weight": factors.astype(np.float32)}
    return write_model(tmp_path / "m.gguf", "llama", config, weights, extra=extra)


def test_llama3_frequency_factors_become_its_rope_scaling(tmp_path: Path) -> None:
    # By hand: 20 dimensions, base 500,000, factor 32, wavelengths against 8192 and 2048.
    waves = [2 * np.pi * 500_000 ** (i / 20) for i in range(0, 20, 2)]
    factors = []
    for wave in waves:
        if wave < 2048:
            factors.append(1.0)
        elif wave > 8192:
            factors.append(32.0)
        else:
            smooth = (8192 / wave - 1) / 3
            factors.append(1 / ((1 - smooth) / 32 + smooth))
    _, read = imported(llama3_model(tmp_path, np.array(factors)))
    assert read["rope_scaling"]["rope_type"] == "llama3"
    assert read["rope_scaling"]["factor"] == 32.0
    assert read["rope_scaling"]["original_max_position_embeddings"] == 8192


def test_other_frequency_factors_are_refused(tmp_path: Path) -> None:
    path = llama3_model(tmp_path, np.linspace(1, 5, 10))
    assert "rope_freqs.weight" in refusal(path, tmp_path / "out")


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    config = tiny_config("llama")
    weights = random_weights(config)
    path = write_model(tmp_path / "m.gguf", "llama", config, weights)
    data = path.read_bytes().replace(b"llama", b"mamba")
    path.write_bytes(data)
    message = refusal(path, tmp_path / "out")
    assert "'mamba'" in message
    assert "gemma3" in message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"llama.expert_count": 8}, "llama.expert_count"),
        ({"llama.rope.scaling.type": "longrope"}, "'longrope'"),
        ({"llama.rope.dimension_count": 6}, "llama.rope.dimension_count"),
    ],
)
def test_settings_that_mlx_lm_does_not_compute_are_refused(
    tmp_path: Path, fields: dict[str, Any], named: str
) -> None:
    config = tiny_config("llama")
    weights = random_weights(config)
    path = write_model(tmp_path / "m.gguf", "llama", config, weights, fields=fields)
    assert named in refusal(path, tmp_path / "out")


def test_missing_extra_and_misshapen_tensors_are_refused_by_name(tmp_path: Path) -> None:
    config = tiny_config("qwen3")
    weights = random_weights(config)
    gone = {k: v for k, v in weights.items() if k != "model.layers.1.mlp.up_proj.weight"}
    path = write_model(tmp_path / "gone.gguf", "qwen3", config, gone)
    assert "blk.1.ffn_up.weight" in refusal(path, tmp_path / "out")
    more = {"blk.0.ffn_gate_inp.weight": np.ones((2, 2), np.float32)}
    path = write_model(tmp_path / "more.gguf", "qwen3", config, weights, extra=more)
    assert "blk.0.ffn_gate_inp.weight" in refusal(path, tmp_path / "out")
    wide = weights | {"model.layers.0.mlp.up_proj.weight": np.ones((3, 40), np.float32)}
    path = write_model(tmp_path / "wide.gguf", "qwen3", config, wide)
    assert "blk.0.ffn_up.weight" in refusal(path, tmp_path / "out")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    config = tiny_config("qwen3")
    weights = random_weights(config)
    weights["model.layers.0.mlp.up_proj.weight"][2, 3] = np.nan
    path = write_model(tmp_path / "m.gguf", "qwen3", config, weights)
    assert "blk.0.ffn_up.weight" in refusal(path, tmp_path / "out")


class TestTheTarget:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        config = tiny_config("qwen3")
        return write_model(tmp_path / "m.gguf", "qwen3", config, random_weights(config))

    def test_has_what_loaders_look_for(self, source: Path, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        import_gguf(source, tmp_path / "a" / "b", progress=lambda *step: seen.append(step))
        names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
        assert names == {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        }
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] > 0
        tokenizer = load_tokenizer(tmp_path / "a" / "b")
        ids = tokenizer.encode("the the<whole></s>")
        assert [TOKENS[i] for i in ids] == ["the", "Ġthe", "<whole>", "</s>"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == "the the<whole>"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_does_not_exist_after_an_interruption(
        self, source: Path, tmp_path: Path, error: type[BaseException]
    ) -> None:
        def interrupt(done: int, total: int) -> None:
            if done > total / 2:
                raise error

        with pytest.raises(error):
            import_gguf(source, tmp_path / "out", progress=interrupt)
        assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]

    def test_is_never_overwritten(self, source: Path, tmp_path: Path) -> None:
        taken = tmp_path / "taken"
        taken.mkdir()
        (taken / "mine").write_text("mine")
        assert "already exists" in refusal(source, taken)
        assert (taken / "mine").read_text() == "mine"

    def test_is_named_if_it_cannot_be_written(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="deeper: cannot be written"):
            import_gguf(source, source / "deeper")


def test_samples_interleave_rows_as_the_format_says() -> None:
    """The worked example of one head of four rows: halves (0, 1) and (2, 3) become 0, 2, 1, 3."""
    config = {"num_attention_heads": 1, "num_key_value_heads": 1}
    rows = np.arange(4)[:, None]
    stored = gguf_values("model.layers.0.self_attn.q_proj.weight", rows, "llama", config)
    assert stored.ravel().tolist() == [0, 2, 1, 3]
    assert gguf_name("model.layers.3.self_attn.q_proj.weight", "llama") == "blk.3.attn_q.weight"


def test_config_is_plain_json(tmp_path: Path) -> None:
    config = tiny_config("gemma3")
    path = write_model(tmp_path / "m.gguf", "gemma3", config, random_weights(config))
    imported(path)
    read = json.loads((tmp_path / "m" / "config.json").read_text())
    for key in ("sliding_window", "sliding_window_pattern", "rope_local_base_freq", "head_dim"):
        assert read[key] == config[key]
