"""Tiny models of real architectures with random weights and published tokenizers.

Random logits are nearly flat; ``sharpness`` scales the output layer so that confidences spread over
the whole range and every gate opens and shuts.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from blendin_mlx.backend.mlx import mx
from blendin_mlx.model import LanguageModel
from blendin_mlx.tokens.vocabulary import Vocabulary

CHATML = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@cache
def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a published tokenizer.json, its config beside it."""
    from transformers import PreTrainedTokenizerFast

    config = json.loads((path.parent / "tokenizer_config.json").read_text())
    special = {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in config.items()
        if key in ("bos_token", "eos_token", "pad_token", "unk_token") and value
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path), clean_up_tokenization_spaces=False, **special
    )
    tokenizer.chat_template = config.get("chat_template") or CHATML
    return tokenizer


@cache
def size_of(tokenizer: Any) -> int:
    """One more than the highest id; asking for a whole vocabulary takes a second."""
    size: int = 1 + max(tokenizer.get_vocab().values())
    return size


def network(architecture: str, vocab_size: int, seed: int, sharpness: float, **options: Any) -> Any:
    """A network of two or so layers and width 32 of an architecture that mlx-lm has."""
    import importlib

    from mlx.utils import tree_map

    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    config = {**SHAPES[architecture], "vocab_size": vocab_size, **options}
    model = module.Model(module.ModelArgs.from_dict(config))
    mx.random.seed(seed)
    model.update(
        tree_map(lambda w: mx.random.normal(w.shape) * 0.3 + (w.ndim == 1), model.parameters())
    )
    inner = model.language_model if hasattr(model, "language_model") else model
    if not hasattr(inner, "lm_head"):  # tied: the embedding is the output layer
        inner.model.embed_tokens.weight = inner.model.embed_tokens.weight * sharpness
    else:
        inner.lm_head.weight = inner.lm_head.weight * sharpness
    mx.eval(model.parameters())
    return model


COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **COMMON},
    "qwen3": {"model_type": "qwen3", **COMMON},
    "gemma3_text": {
        "model_type": "gemma3_text",
        **COMMON,
        "sliding_window": 512,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 32,
    },
}


def tiny_model(
    tokenizer: Any,
    architecture: str = "llama",
    *,
    seed: int = 0,
    sharpness: float = 1.0,
    padding: int = 0,
    name: str | None = None,
    eos: list[int] | None = None,
    **options: Any,
) -> LanguageModel:
    """A model over a tokenizer, with ``padding`` logits more than it has tokens."""
    size = size_of(tokenizer) + padding
    made = network(architecture, size, seed, sharpness, **options)
    config = {
        "eos_token_id": eos or [tokenizer.eos_token_id],
        "max_position_embeddings": 4096,
        **options,
    }
    model = LanguageModel(made, tokenizer, config, name or f"tiny-{architecture}-{seed}")
    size, stops, turns = min(model.logit_size, model.rows), model.stop_ids, model.turn_ids
    model.vocabulary = _vocabulary(tokenizer, size, stops, turns, model.name)
    return model


@cache
def _vocabulary(
    tokenizer: Any, size: int, stops: frozenset[int], turns: frozenset[int], name: str
) -> Vocabulary:
    """What models with one tokenizer share; a published one takes a second to read."""
    return Vocabulary(tokenizer, size=size, stop_ids=stops, name=name, turn_ids=turns)


# Architectures whose caches cannot be rewound, or not always.
SHAPES["mamba2"] = {
    "model_type": "mamba2",
    "num_heads": 4,
    "head_dim": 16,
    "hidden_size": 32,
    "intermediate_size": 64,
    "state_size": 8,
    "num_hidden_layers": 2,
    "layer_norm_epsilon": 1e-5,
    "conv_kernel": 4,
    "n_groups": 1,
    "use_bias": False,
    "use_conv_bias": True,
    "tie_word_embeddings": False,
    "time_step_limit": (0.001, 0.1),
    "time_step_rank": "auto",
}
SHAPES["lfm2"] = {
    **COMMON,
    "model_type": "lfm2",
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 32,
    "block_multiple_of": 8,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "block_ff_dim": 48,
    "layer_types": ["conv", "full_attention"],
}
SHAPES["falcon_h1"] = {
    **COMMON,
    "model_type": "falcon_h1",
    "attention_in_multiplier": 1.0,
    "attention_out_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "head_dim": 16,
    "key_multiplier": 1.0,
    "lm_head_multiplier": 1.0,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 64,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 4,
    "mamba_proj_bias": False,
    "mlp_multipliers": [1.0, 1.0],
    "ssm_in_multiplier": 1.0,
    "ssm_multipliers": [1.0, 1.0, 1.0, 1.0, 1.0],
    "ssm_out_multiplier": 1.0,
}


def sentencepiece_tokenizer(dummy_prefix: str) -> Any:
    """A small BPE with byte fallback that puts a space before a text, as Llama 2's does.

    ``dummy_prefix`` says how: ``prepend`` by its normaliser, ``metaspace`` by its pre-tokenizer.
    Its vocabulary has a token of two line breaks, which a leading one must not be joined to.
    """
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", *"abcdefghijklmnopqrstuvwxyz.,\n"]
    merges = [
        ("▁", "t"),
        ("h", "e"),
        ("▁t", "he"),
        ("▁", "a"),
        ("▁", "▁"),
        ("\n", "\n"),
        ("a", "b"),
    ]
    tokens += ["".join(pair) for pair in merges]
    ids = {token: n for n, token in enumerate(tokens)}
    model = models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    if dummy_prefix == "prepend":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in tokens[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
