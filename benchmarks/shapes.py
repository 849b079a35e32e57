"""Pairs whose passes cost what real ones cost, while what they say follows a script.

The networks are real llama-architecture ones with random weights. Their logits are computed and
then replaced, by position: the base is sure of its token (0.9) or unsure (0.3); the guide (0.6)
names the base's token at a chosen share of positions. Where the base is unsure the guide's token
wins the blend, so a draft of the guide is right there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from blendin_mlx.backend.mlx import mx
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompts import PairPrompt, Prompt

BASE = {"hidden_size": 896, "num_hidden_layers": 28, "intermediate_size": 2432,
        "num_attention_heads": 14, "num_key_value_heads": 2}  # fmt: skip
GUIDE = {"hidden_size": 256, "num_hidden_layers": 8, "intermediate_size": 768,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
SURE, UNSURE, GUIDES = 0.9, 0.3, 0.6
POSITIONS = 8192
WORD = 2000  # tokens from here on are words of the tokenizer: no control tokens, no line breaks


class Scripted:
    """A network that computes its logits and says something else.

    ``tokens`` and ``confidence`` ``[POSITIONS]`` are what it prefers after so many tokens.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self.tokens = mx.zeros(POSITIONS, dtype=mx.int32)
        self.confidence = mx.full(POSITIONS, SURE)

    def __call__(self, ids: mx.array, cache: Any = None, **options: Any) -> mx.array:
        starts = mx.array(cache[0].offset if cache else 0).reshape(-1, 1)
        positions = starts + mx.arange(ids.shape[1])  # of mlx-lm's left padding: below 0
        real = self._network(ids, cache=cache, **options)
        return self.say(real, mx.maximum(positions, 0))

    def say(self, real: mx.array, positions: mx.array) -> mx.array:
        """The script's logits ``[R, n, V]``, not before ``real`` is computed."""
        size = real.shape[-1]
        confidence = self.confidence[positions][..., None]
        chosen = mx.arange(size) == self.tokens[positions][..., None]
        rest = mx.log((1 - confidence) / (size - 1))
        return mx.where(chosen, mx.log(confidence), rest) + 0.0 * real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


@dataclass(frozen=True)
class Script:
    """How often the guide names the base's token, and how often the base is unsure."""

    agreement: float
    unsure: float

    def direct(self, pair: Pair, words: np.ndarray[Any, Any]) -> None:
        """Tell both networks of a pair what to say."""
        rng = np.random.default_rng(round(1000 * self.agreement + 10 * self.unsure))
        base = rng.choice(words, POSITIONS)
        other = rng.choice(words, POSITIONS)
        agrees = _spread(self.agreement, rng)
        unsure = _spread(self.unsure, rng)
        pair.base.network.tokens = mx.array(base.astype(np.int32))
        pair.base.network.confidence = mx.array(np.where(unsure, UNSURE, SURE).astype(np.float32))
        pair.aligned.network.tokens = mx.array(np.where(agrees, base, other).astype(np.int32))
        pair.aligned.network.confidence = mx.full(POSITIONS, GUIDES)


def _spread(share: float, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Booleans ``[POSITIONS]`` of which that share holds in every twenty, so in short runs too."""
    block = np.arange(20) < round(20 * share)
    blocks = [rng.permutation(block) for _ in range(POSITIONS // 20 + 1)]
    return np.concatenate(blocks)[:POSITIONS]


def make_network(shape: dict[str, int], vocab_size: int, seed: int) -> Scripted:
    """A llama of that shape with random weights in float32."""
    from mlx.utils import tree_map
    from mlx_lm.models import llama

    arguments = llama.ModelArgs(
        model_type="llama", vocab_size=vocab_size, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=True, max_position_embeddings=POSITIONS, **shape,
    )  # fmt: skip
    network = llama.Model(arguments)
    mx.random.seed(seed)
    deviation = 1 / math.sqrt(shape["hidden_size"])
    network.update(
        tree_map(
            lambda w: mx.random.normal(w.shape) * deviation + (w.ndim == 1), network.parameters()
        )
    )
    mx.eval(network.parameters())
    return Scripted(network)


def shape_true_pair(
    tokenizer: Any, base_shape: dict[str, int] = BASE, guide_shape: dict[str, int] = GUIDE
) -> Pair:
    """A base of about 285 and a guide of about 20 million parameters, with one tokenizer."""
    size = 1 + max(tokenizer.get_vocab().values())
    config = {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": POSITIONS}
    base, guide = (
        LanguageModel(make_network(shape, size, seed), tokenizer, config, name)
        for shape, seed, name in ((base_shape, 0, "shape-base"), (guide_shape, 1, "shape-guide"))
    )
    return Pair(base, guide)


def words_of(model: LanguageModel) -> np.ndarray[Any, Any]:
    """Tokens that write plain ASCII words, so that no end is ever checked."""
    written = model.vocabulary.token_bytes
    return np.array([t for t, b in enumerate(written) if t >= WORD and b and b.strip().isalpha()])


def prompt_of(length: int, words: np.ndarray[Any, Any]) -> PairPrompt:
    """A prompt of so many tokens for both models."""
    ids = tuple(int(word) for word in words[:length])
    return PairPrompt(base=Prompt("", ids), aligned=Prompt("", ids), stops=())
