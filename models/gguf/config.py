"""Translate a GGUF file's metadata into the fields of mlx-lm's config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ModelError
from .blocks import floats
from .file import GgufFile, Tensor

_MODEL_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
_GEMMAS = ("gemma2", "gemma3")
_GEMMA3_PATTERN = 6
_GEMMA3_LOCAL_ROPE = 10_000.0
# Layer counts of the two 27B models, the only ones of their families that scale queries by
# hidden / heads instead of the head size; GGUF does not store the scale.
_LARGE_GEMMA_LAYERS = {"gemma2": 46, "gemma3": 62}
# Llama 3.1, 3.2 and 3.3 were all trained with these; GGUF stores only the resulting factors.
_LLAMA3_ROPE = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
# GGUF options that change what a model computes and have no counterpart in mlx-lm.
_UNSUPPORTED = (
    "expert_count",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_log_multiplier",
    "logit_scale",
)


def architecture(file: GgufFile) -> str:
    """Return the file's architecture, one of `MODEL_TYPES`.

    Raises:
        ModelError: it is missing or not supported.
    """
    name = file.fields.get("general.architecture")
    if not isinstance(name, str) or name not in _MODEL_TYPES:
        raise ModelError(
            f"{file.path}: GGUF architecture {name!r} is not supported; "
            f"{', '.join(_MODEL_TYPES)} are"
        )
    return name


class Metadata:
    """Metadata of one architecture: `meta.integer("block_count")` reads `llama.block_count`."""

    def __init__(self, file: GgufFile) -> None:
        self.path = file.path
        self.fields: Mapping[str, Any] = file.fields
        self.architecture = architecture(file)

    def get(self, name: str) -> Any:
        """Return a scalar value, or None.

        Raises:
            ModelError: it is a list.
        """
        value = self.array(name)
        if isinstance(value, list | np.ndarray):
            raise self.error(name, "is a list; models whose layers differ are not supported")
        return value

    def array(self, name: str) -> Any:
        """Return a value that may be a list, or None."""
        return self.fields.get(f"{self.architecture}.{name}")

    def error(self, name: str, what: str) -> ModelError:
        """Return an error that names the file and the field; `what` is the predicate."""
        return ModelError(f"{self.path}: {self.architecture}.{name} {what}")

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a positive integer.

        Raises:
            ModelError: it is missing without a default, or is not a positive integer.
        """
        value = self.get(name)
        if value is None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(name, f"is {value!r}; a positive integer is needed")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a positive, finite number.

        Raises:
            ModelError: it is missing without a default, or is not positive and finite.
        """
        value = self.get(name)
        if value is None:
            value = default
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self.error(name, f"is {value!r}; a positive number is needed")
        return float(value)


def model_config(file: GgufFile) -> dict[str, Any]:
    """Return the fields of mlx-lm's config.json, except the quantization.

    Raises:
        ModelError: a field is missing or invalid, or mlx-lm cannot compute what it asks for.
    """
    meta = Metadata(file)
    for name in _UNSUPPORTED:
        if meta.get(name):
            raise meta.error(name, f"is {meta.get(name)!r}; models that set it are not supported")
    hidden, heads = meta.integer("embedding_length"), meta.integer("attention.head_count")
    head_dim = meta.integer("attention.key_length", max(1, hidden // heads))
    for name in ("attention.value_length", "rope.dimension_count"):
        if meta.integer(name, head_dim) != head_dim:
            raise meta.error(name, f"differs from the size of a head, {head_dim}: not supported")
    config: dict[str, Any] = {
        "model_type": _MODEL_TYPES[meta.architecture],
        "hidden_size": hidden,
        "num_hidden_layers": meta.integer("block_count"),
        "intermediate_size": meta.integer("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": meta.integer("context_length"),
        "rope_theta": meta.number("rope.freq_base", 10_000.0),
        "vocab_size": _vocabulary_size(file),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    rope_scaling = _rope_scaling(meta, file.tensors.get("rope_freqs.weight"), config)
    if rope_scaling is not None:
        config["rope_scaling"] = rope_scaling
    config.update(_of_architecture(meta, config, file))
    _check_heads(meta, config)
    return config


def _vocabulary_size(file: GgufFile) -> int:
    # The number of embeddings decides, not the field `llama.vocab_size`.
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError(f"{file.path}: incomplete GGUF file: it has no tensor token_embd.weight")
    return embedding.shape[0]


def _check_heads(meta: Metadata, config: Mapping[str, Any]) -> None:
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % shared:
        raise meta.error("attention.head_count_kv", f"is {shared}, which does not divide {heads}")
    if config["head_dim"] % 2:
        raise meta.error("attention.key_length", "is odd, which rotary positions do not allow")
    if meta.architecture == "qwen2" and config["head_dim"] * heads != config["hidden_size"]:
        raise meta.error("attention.key_length", "is not embedding_length / head_count")


def _of_architecture(meta: Metadata, config: dict[str, Any], file: GgufFile) -> dict[str, Any]:
    if meta.architecture == "llama":
        return {
            "attention_bias": "blk.0.attn_q.bias" in file.tensors,
            "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
        }
    if meta.architecture not in _GEMMAS:
        return {}
    if not config["tie_word_embeddings"] and meta.architecture == "gemma2":
        raise ModelError(f"{meta.path}: gemma2 with an output.weight is not supported")
    scalar = config["head_dim"]
    if config["num_hidden_layers"] == _LARGE_GEMMA_LAYERS[meta.architecture]:
        scalar = config["hidden_size"] // config["num_attention_heads"]
    gemma: dict[str, Any] = {"query_pre_attn_scalar": scalar}
    if meta.architecture == "gemma2":
        gemma["attn_logit_softcapping"] = meta.number("attn_logit_softcapping", 50.0)
        gemma["final_logit_softcapping"] = meta.number("final_logit_softcapping", 30.0)
        return gemma
    if meta.get("final_logit_softcapping"):
        raise meta.error("final_logit_softcapping", "is set, which mlx-lm does not compute")
    gemma["sliding_window"] = meta.integer("attention.sliding_window")
    gemma["sliding_window_pattern"] = _pattern(meta)
    gemma["rope_local_base_freq"] = meta.number("rope.freq_base_swa", _GEMMA3_LOCAL_ROPE)
    return gemma


def _pattern(meta: Metadata) -> int:
    """Return the period of global attention layers; stored as a number or one flag per layer."""
    name = "attention.sliding_window_pattern"
    flags = meta.array(name)
    if not isinstance(flags, np.ndarray):
        return meta.integer(name, _GEMMA3_PATTERN)
    slides = [bool(flag) for flag in flags]
    period = slides.index(False) + 1 if False in slides else 0
    if not period or slides != [(i + 1) % period != 0 for i in range(len(slides))]:
        raise meta.error(name, "is not periodic, which mlx-lm does not compute")
    return period


def _rope_scaling(
    meta: Metadata, factors: Tensor | None, config: Mapping[str, Any]
) -> dict[str, Any] | None:
    kind = meta.get("rope.scaling.type")
    if kind in (None, "none"):
        kind = "linear" if meta.get("rope.scale_linear") else None
    if factors is not None:
        if kind is not None or meta.architecture != "llama":
            raise ModelError(f"{meta.path}: rope_freqs.weight is not supported in this model")
        return _llama3_scaling(meta, factors, config)
    if kind is None:
        return None
    if kind not in ("linear", "yarn") or meta.architecture == "gemma2":
        raise meta.error("rope.scaling.type", f"is {kind!r}, which is not supported")
    scale = meta.number("rope.scaling.factor", meta.get("rope.scale_linear"))
    if kind == "linear":
        return {"rope_type": "linear", "type": "linear", "factor": scale}
    return {
        "rope_type": "yarn",
        "type": "yarn",
        "factor": scale,
        "original_max_position_embeddings": meta.integer("rope.scaling.original_context_length"),
        "beta_fast": meta.number("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": meta.number("rope.scaling.yarn_beta_slow", 1.0),
    }


def _llama3_scaling(
    meta: Metadata, tensor: Tensor, config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the settings that give the stored factors, one for each rotary frequency."""
    factors, head_dim = floats(tensor).ravel(), config["head_dim"]
    if factors.shape == (head_dim // 2,) and np.isfinite(factors).all():
        scale = float(factors.max())
        if (factors == 1).all():
            return None
        if np.allclose(factors, _llama3_factors(head_dim, config["rope_theta"], scale), rtol=1e-3):
            return {"rope_type": "llama3", "type": "llama3", "factor": scale, **_LLAMA3_ROPE}
    raise ModelError(
        f"{meta.path}: rope_freqs.weight does not follow Llama 3.1's scaling: not supported"
    )


def _llama3_factors(head_dim: int, base: float, factor: float) -> np.ndarray[Any, Any]:
    """Return factors that stretch long wavelengths by `factor`, short ones not, others between."""
    wavelengths = 2 * np.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
    turns = _LLAMA3_ROPE["original_max_position_embeddings"] / wavelengths
    low, high = _LLAMA3_ROPE["low_freq_factor"], _LLAMA3_ROPE["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    factors: np.ndarray[Any, Any] = 1 / ((1 - kept) / factor + kept)
    return factors
