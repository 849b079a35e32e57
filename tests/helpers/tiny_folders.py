"""Folders of tiny random models, as the command line takes them: made in a fraction of a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendin_mlx.backend.mlx import mx
from blendin_mlx.model import LanguageModel
from blendin_models import Progress
from blendin_models.loading.loader import open_model, read_weights
from tiny import CHATML, network

SPECIAL = ("<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CORPUS = ("the cat sat on the mat and the dog ran to the hat", "an egg is boiled in hot water")
VOCABULARY = 300
CONTEXT = 4096


def write_model(
    folder: Path,
    seed: int,
    *,
    chat_template: bool = True,
    architecture: str = "llama",
    shape: Mapping[str, int] | None = None,
    **config: Any,
) -> Path:
    """Write a model that goes on for ever: greedy, it writes ASCII and never ends by itself.

    Args:
        seed: different seeds want different things.
        shape: sizes of the network besides the usual ones.
        config: entries of config.json besides the usual ones.
    """
    from mlx.utils import tree_flatten

    folder.mkdir(parents=True)
    model = network(architecture, VOCABULARY, seed, sharpness=8.0, **(shape or {}))
    model.lm_head.weight = model.lm_head.weight * _writable(_write_tokenizer(folder, chat_template))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    made = {"vocab_size": VOCABULARY, "eos_token_id": SPECIAL.index("<|end|>"), **config}
    sizes = {key: value for key, value in vars(model.args).items() if value is not None}
    (folder / "config.json").write_text(json.dumps({**sizes, **made}))
    return folder


def load_model(
    folder: Path,
    name: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """Open a model folder, and read all of its weights."""
    model = open_model(folder, name, revision)
    read_weights(model, progress)
    return model


def _write_tokenizer(folder: Path, chat_template: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 9, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tokenizer_settings(folder, chat_template)
    return tokenizer


def write_tokenizer_settings(folder: Path, chat_template: bool) -> None:
    """What transformers wants to know besides the tokens."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "clean_up_tokenization_spaces": False,
        **({"chat_template": CHATML} if chat_template else {}),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _writable(tokenizer: Any) -> mx.array:
    """1 for tokens of letters and spaces, 0 for all others: their logits are never the highest."""
    texts = [tokenizer.decode([token]) for token in range(VOCABULARY)]
    return mx.array([[float(t.isascii() and t.replace(" ", "a").isalpha())] for t in texts])
