"""Tiny GGUF files: real architectures, random weights, stored as llama.cpp's converter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from blendin_mlx.backend.mlx import mx

ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
MODULES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
GEMMA_MODULES = MODULES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
# Every byte, three words, and one token of each kind that is matched whole.
BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
WORDS = ["th", "the", "Ġthe"]
SPECIAL = {"<s>": 3, "</s>": 3, "<whole>": 4}
TOKENS = [*BYTES, *WORDS, *SPECIAL]
MERGES = ["t h", "th e", "Ġ the"]

Weights = dict[str, np.ndarray[Any, Any]]


def tiny_config(architecture: str, hidden: int = 40, **changes: Any) -> dict[str, Any]:
    """Return mlx-lm's config of a two-layer model; a `hidden` not divisible by 32 stays float."""
    config = {
        "model_type": ARCHITECTURES[architecture],
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "intermediate_size": hidden + 8 if hidden % 32 else 2 * hidden,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64,
        "rope_theta": 5000.0,
        "vocab_size": len(TOKENS),
        "tie_word_embeddings": architecture != "llama",
        "query_pre_attn_scalar": hidden // 4,
        "sliding_window": 4,
        "sliding_window_pattern": 2,
        "rope_local_base_freq": 500.0,
    }
    return config | changes


def tiny_model(config: dict[str, Any], weights: Weights | None = None) -> Any:
    """Build mlx-lm's own model, with random weights (large enough to matter) or `weights`."""
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    if config["tie_word_embeddings"] and "lm_head" in model:
        model.tie_word_embeddings = True
        model.pop("lm_head")
    if weights is None:
        rng = np.random.default_rng(7)
        weights = {
            name: rng.normal(0, 0.3, value.shape).astype(np.float32)
            for name, value in tree_flatten(model.parameters())
            if not name.endswith("_freqs")
        }
    model.load_weights([(name, mx.array(value)) for name, value in weights.items()])
    return model


def weights_of(model: Any) -> Weights:
    return {name: np.array(value) for name, value in tree_flatten(model.parameters())}


def gguf_name(name: str, architecture: str) -> str:
    modules = GEMMA_MODULES if architecture.startswith("gemma") else MODULES
    module, kind = name.rsplit(".", 1)
    if module.startswith("model.layers."):
        _, _, layer, inner = module.split(".", 3)
        return f"blk.{layer}.{modules[inner]}.{kind}"
    return f"{modules[module]}.{kind}"


def gguf_values(
    name: str, values: np.ndarray[Any, Any], architecture: str, config: dict[str, Any]
) -> np.ndarray[Any, Any]:
    """Return values as the converter stores them: Llama's rows interleaved, Gemma's norms + 1."""
    if architecture.startswith("gemma") and "norm" in name:
        return values + 1
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for projection, count in heads.items():
        if architecture == "llama" and projection in name:
            # Row h * d + half * d / 2 + i goes to row h * d + 2 * i + half.
            size = values.shape[0] // count
            order = [
                head * size + half * size // 2 + i
                for head in range(count)
                for i in range(size // 2)
                for half in (0, 1)
            ]
            return values[order]
    return values


def write_tokenizer(writer: gguf.GGUFWriter, pre: str = "gpt-2") -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([SPECIAL.get(token, 1) for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(TOKENS.index("<s>"))
    writer.add_eos_token_id(TOKENS.index("</s>"))


def write_settings(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_sliding_window(config["sliding_window"])
    if config["model_type"] == "gemma3_text":
        writer.add_sliding_window_pattern(config["sliding_window_pattern"])
        writer.add_float32("gemma3.rope.freq_base_swa", config["rope_local_base_freq"])


def write_model(
    path: Path,
    architecture: str,
    config: dict[str, Any],
    weights: Weights,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    extra: Weights | None = None,
    fields: dict[str, Any] | None = None,
) -> Path:
    """Write a GGUF file; matrices as `kind`; `extra` are tensors, `fields` settings as they are."""
    writer = gguf.GGUFWriter(path, architecture)
    write_settings(writer, config)
    for key, value in (fields or {}).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](key, value)
    write_tokenizer(writer)
    for name, values in weights.items():
        stored = gguf_values(name, values, architecture, config)
        if stored.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            packed = gguf.quants.quantize(stored, kind)
            writer.add_tensor(gguf_name(name, architecture), packed, raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name, architecture), stored)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(model: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    return np.array(model(mx.array([ids]))[0].astype(mx.float32))
