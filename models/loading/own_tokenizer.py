"""The tokenizer of a model folder, as its ``tokenizer.json`` has it.

For some combinations of ``tokenizer_class`` and ``model_type`` transformers builds a tokenizer of
its own rules around the vocabulary of the file, which gives other ids ("2023" as four digits where
the file has groups of three). Here the file decides; the settings beside it only name tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ModelError, first_line
from ..storage.small_files import load_json

# What of a tokenizer decides about ids, besides the vocabulary and the merges.
RULES = ("normalizer", "pre_tokenizer", "decoder")
NO_VOCABULARY = {"type": "BPE", "vocab": {}, "merges": []}
# What every tokenizer must read: numbers, scripts, emoji, code, long runs.
BATTERY = (
    "The year 2023: 1234567 items, it's 12.5% more.\n\n",
    "漢字かな交じり文。 Привет, мир! مرحبا नमस्ते 👩🏽‍🚀🇫🇷",
    "def f(x):\n    return  x  # \ttabs\r\n<|end|> <s> </s>",
    *(char * 500 for char in "a1 =\n"),
)


def load_tokenizer(folder: Path, eos_token_ids: Any = None) -> Any:
    """Return the tokenizer of a folder in mlx-lm's wrapper. No code of the folder runs.

    Args:
        eos_token_ids: what the model's config says, one or several.

    Raises:
        ModelError: ``tokenizer.json`` is damaged.
        Exception: whatever transformers raises over the files beside it.
    """
    from mlx_lm.tokenizer_utils import TokenizerWrapper
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from blendin_mlx.tokens.encoder import contained

    file = folder / "tokenizer.json"
    # Without settings, the classes of transformers know how the tokens of a family are called.
    named = (folder / "tokenizer_config.json").is_file()
    kind = PreTrainedTokenizerFast if named else AutoTokenizer
    with contained():
        # Said outright: left open, transformers may ask on the terminal whether to run code.
        tokenizer = kind.from_pretrained(folder, trust_remote_code=False)
    restore(tokenizer, file, rebuilt=not named)
    probe(tokenizer.backend_tokenizer, file)
    ends = [eos_token_ids] if isinstance(eos_token_ids, int) else eos_token_ids
    return TokenizerWrapper(tokenizer, eos_token_ids=ends)


def read_tokenizer(file: Path) -> Any:
    """Return the tokenizer that a ``tokenizer.json`` describes.

    Raises:
        ModelError: it is damaged.
    """
    from tokenizers import Tokenizer

    from blendin_mlx.tokens.encoder import contained

    try:
        with contained():
            return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{file} is no valid tokenizer: {first_line(error)}") from error


def restore(tokenizer: Any, file: Path, rebuilt: bool) -> None:
    """Give a tokenizer of transformers the file's own rules, where it was given others.

    Args:
        rebuilt: whether its vocabulary and merges may be others too.

    Raises:
        ModelError: the file is damaged, or is not what is loaded.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"{file} is not what its settings load: {type(tokenizer).__name__}")
    if rebuilt or _rules(backend) != _rules(_without_vocabulary(file)):
        tokenizer._tokenizer = own = read_tokenizer(file)
        for name, token in tokenizer.special_tokens_map.items():
            if isinstance(token, str) and own.token_to_id(token) is None:
                setattr(tokenizer, name, None)  # a name that its class gives it


def _rules(tokenizer: Any) -> list[bytes | None]:
    parts = (getattr(tokenizer, name) for name in RULES)
    return [None if part is None else part.__getstate__() for part in parts]


def _without_vocabulary(file: Path) -> Any:
    """The tokenizer of a file with its rules alone, which is made at once."""
    from tokenizers import Tokenizer

    bare = {**load_json(file), "model": NO_VOCABULARY, "added_tokens": [], "post_processor": None}
    return Tokenizer.from_str(json.dumps(bare))


def probe(tokenizer: Any, file: Path) -> None:
    """Refuse a tokenizer that fails on ordinary text.

    Raises:
        ModelError: it does.
    """
    from blendin_mlx.tokens.encoder import Encoder, TokenizingError, contained

    encoder = Encoder(tokenizer, str(file))
    try:
        with contained():
            for text in BATTERY:
                encoder.encode(text)
    except TokenizingError as error:
        raise ModelError(f"{file} is no usable tokenizer: {first_line(error)}") from error
