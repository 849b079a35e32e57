"""Tiny models of real architectures with random weights and published tokenizers.

Random logits are nearly flat; ``sharpness`` scales the output layer so that confidences spread over
the whole range and every gate opens and shuts.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from blendin_mlx.backend import mx
from blendin_mlx.model import LanguageModel

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
    size = 1 + max(tokenizer.get_vocab().values()) + padding
    made = network(architecture, size, seed, sharpness, **options)
    config = {
        "eos_token_id": eos or [tokenizer.eos_token_id],
        "max_position_embeddings": 4096,
        **options,
    }
    return LanguageModel(made, tokenizer, config, name or f"tiny-{architecture}-{seed}")
