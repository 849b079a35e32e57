"""List the tensors that a GGUF model must have, and the mlx-lm parameter that each becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from .file import GgufFile

_GEMMAS = ("gemma2", "gemma3_text")
# `config.py` turns it into settings.
_NOT_WEIGHTS = {"rope_freqs.weight"}

# GGUF name → (mlx-lm module, names of the dimensions).
_MATRICES = {
    "attn_q": ("self_attn.q_proj", ("queries", "hidden")),
    "attn_k": ("self_attn.k_proj", ("keys", "hidden")),
    "attn_v": ("self_attn.v_proj", ("keys", "hidden")),
    "attn_output": ("self_attn.o_proj", ("hidden", "queries")),
    "ffn_gate": ("mlp.gate_proj", ("inner", "hidden")),
    "ffn_up": ("mlp.up_proj", ("inner", "hidden")),
    "ffn_down": ("mlp.down_proj", ("hidden", "inner")),
}
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_GEMMA_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of an mlx-lm module, and how its GGUF tensor differs from it.

    Attributes:
        source: name of the GGUF tensor.
        module: path of the mlx-lm module.
        kind: `weight` or `bias`.
        shape: the shape that the tensor must have.
        permuted_heads: number of heads whose rows are interleaved; 0 if the rows are in order.
        offset: constant to subtract from each value.
    """

    source: str
    module: str
    kind: str
    shape: tuple[int, ...]
    permuted_heads: int = 0
    offset: float = 0.0

    @property
    def name(self) -> str:
        """The parameter's name in mlx-lm."""
        return f"{self.module}.{self.kind}"


def parameters(file: GgufFile, config: Mapping[str, Any]) -> list[Parameter]:
    """Return all parameters of the model that `config` describes.

    Raises:
        ModelError: a tensor is missing from `file`, has the wrong shape, or is not expected.
    """
    layers = config["num_hidden_layers"]
    if layers > len(file.tensors):  # a damaged count must not be looped over
        raise ModelError(f"{file.path}: incomplete GGUF file: {layers} layers expected")
    wanted = _outer(config)
    for index in range(layers):
        wanted += _layer(index, config)
    _check(file, wanted)
    return wanted


def _sizes(config: Mapping[str, Any]) -> dict[str, int]:
    return {
        "hidden": config["hidden_size"],
        "inner": config["intermediate_size"],
        "queries": config["num_attention_heads"] * config["head_dim"],
        "keys": config["num_key_value_heads"] * config["head_dim"],
    }


def _norm_offset(config: Mapping[str, Any]) -> float:
    """Return what GGUF added to norm weights: Gemma's files hold 1 + weight; mlx-lm adds the 1."""
    return 1.0 if config["model_type"] in _GEMMAS else 0.0


def _outer(config: Mapping[str, Any]) -> list[Parameter]:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    offset = _norm_offset(config)
    outer = [
        Parameter("token_embd.weight", "model.embed_tokens", "weight", (vocabulary, hidden)),
        Parameter("output_norm.weight", "model.norm", "weight", (hidden,), offset=offset),
    ]
    if not config["tie_word_embeddings"]:
        outer.append(Parameter("output.weight", "lm_head", "weight", (vocabulary, hidden)))
    return outer


def _layer(index: int, config: Mapping[str, Any]) -> list[Parameter]:
    source, module = f"blk.{index}.", f"model.layers.{index}."
    sizes, offset, biased = _sizes(config), _norm_offset(config), _biased(config)
    found = []
    for name, (path, dimensions) in _MATRICES.items():
        shape = tuple(sizes[dimension] for dimension in dimensions)
        heads = _permuted_heads(name, config)
        found.append(Parameter(f"{source}{name}.weight", module + path, "weight", shape, heads))
        if name in biased:
            bias = Parameter(f"{source}{name}.bias", module + path, "bias", shape[:1], heads)
            found.append(bias)
    for name, path in _norms(config).items():
        size = config["head_dim"] if name in _HEAD_NORMS else config["hidden_size"]
        norm = Parameter(f"{source}{name}.weight", module + path, "weight", (size,), offset=offset)
        found.append(norm)
    return found


def _permuted_heads(name: str, config: Mapping[str, Any]) -> int:
    """Return the heads whose rows are interleaved, as Llama's GGUF files do for their rotation."""
    if config["model_type"] != "llama":
        return 0
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    return int(heads.get(name, 0))


def _norms(config: Mapping[str, Any]) -> dict[str, str]:
    norms = _GEMMA_NORMS if config["model_type"] in _GEMMAS else _NORMS
    return norms | _HEAD_NORMS if config["model_type"] in ("qwen3", "gemma3_text") else norms


def _biased(config: Mapping[str, Any]) -> set[str]:
    if config["model_type"] == "qwen2":
        return {"attn_q", "attn_k", "attn_v"}
    biased = set()
    if config.get("attention_bias"):
        biased |= {"attn_q", "attn_k", "attn_v", "attn_output"}
    if config.get("mlp_bias"):
        biased |= {"ffn_gate", "ffn_up", "ffn_down"}
    return biased


def _check(file: GgufFile, wanted: list[Parameter]) -> None:
    for parameter in wanted:
        tensor = file.tensors.get(parameter.source)
        if tensor is None:
            raise ModelError(
                f"{file.path}: incomplete GGUF file: it has no tensor {parameter.source}"
            )
        if tensor.shape != parameter.shape:
            raise ModelError(
                f"{file.path}: damaged GGUF file: tensor {parameter.source} has shape "
                f"{tensor.shape}, its metadata asks for {parameter.shape}"
            )
    if more := file.tensors.keys() - {parameter.source for parameter in wanted} - _NOT_WEIGHTS:
        raise ModelError(f"{file.path}: GGUF tensor {min(more)!r} is not supported in this model")
