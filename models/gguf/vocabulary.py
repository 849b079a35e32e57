"""Read and validate the vocabulary of a GGUF file, and the settings that go with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .file import GgufFile

# tokenizer.ggml.token_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# Values of tokenizer.ggml.pre: how a byte-level tokenizer splits text into words.
_PRE_TOKENIZERS = ("default", "gpt-2", "smollm", "llama-bpe", "qwen2")

_LONGEST_TOKEN = 1024  # characters; tokens of real models are shorter than 300

SPACE_PIECE = "▁"  # SentencePiece's visible space


@dataclass(frozen=True)
class Vocabulary:
    """The validated fields `tokenizer.ggml.*` of a file; `tokens` and `types` are by id."""

    path: Path
    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    fields: dict[str, Any]

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean field, or `default` if it is missing."""
        value = self.fields.get(f"tokenizer.ggml.{name}")
        return bool(value) if isinstance(value, int) else default

    def special_id(self, name: str) -> int | None:
        """Return the id of bos, eos, unknown, padding, eot or eom; None if the file has none.

        Raises:
            ModelError: the id is not in the vocabulary.
        """
        field = f"tokenizer.ggml.{name}_token_id"
        value = self.fields.get(field)
        if value is None:
            return None
        if not isinstance(value, int) or not 0 <= value < len(self.tokens):
            raise ModelError(f"{self.path}: {field} is {value!r}, which is not a token id")
        return value

    def special(self, name: str) -> str | None:
        """Return the token of `special_id`, or None."""
        value = self.special_id(name)
        return None if value is None else self.tokens[value]

    @property
    def adds_bos(self) -> bool:
        """True if encoding adds the beginning-of-text token."""
        default = self.model == "llama" or self.pre == "llama-bpe"
        return self.flag("add_bos_token", default) and self.special_id("bos") is not None

    @property
    def adds_eos(self) -> bool:
        """True if encoding adds the end-of-text token."""
        return self.flag("add_eos_token", False) and self.special_id("eos") is not None


def read_vocabulary(file: GgufFile) -> Vocabulary:
    """Read the vocabulary of `file`.

    Raises:
        ModelError: it is missing, damaged or of an unsupported kind.
    """
    model = file.fields.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model not in ("gpt2", "llama"):
        raise ModelError(
            f"{file.path}: GGUF tokenizer {model!r} is not supported; 'gpt2' and 'llama' are"
        )
    pre = file.fields.get("tokenizer.ggml.pre", None if model == "gpt2" else "default")
    if pre is None:  # a wrong guess would split words in the wrong places
        raise ModelError(
            f"{file.path}: it has no tokenizer.ggml.pre, so how its tokenizer splits words is "
            "unknown; choose a file converted by a newer llama.cpp"
        )
    if not isinstance(pre, str) or (model == "gpt2" and pre not in _PRE_TOKENIZERS):
        raise ModelError(
            f"{file.path}: GGUF pre-tokenizer {pre!r} is not supported; "
            f"{', '.join(_PRE_TOKENIZERS)} are"
        )
    tokens = texts(file, "tokens")
    if (longest := max(map(len, tokens))) > _LONGEST_TOKEN:
        raise ModelError(f"{file.path}: damaged GGUF file: a token has {longest} characters")
    types = numbers(file, "token_type", len(tokens), NORMAL)
    tokens = [_piece(token, kind) for token, kind in zip(tokens, types, strict=True)]
    if len(set(tokens)) < len(tokens):
        twice, _ = Counter(tokens).most_common(1)[0]
        raise ModelError(f"{file.path}: damaged GGUF file: token {twice!r} appears twice")
    return Vocabulary(file.path, model, pre, tokens, types, file.fields)


def tokenizer_config(vocabulary: Vocabulary, max_length: int) -> dict[str, Any]:
    """Return the fields of tokenizer_config.json; `max_length` is in tokens."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": vocabulary.adds_bos,
        "add_eos_token": vocabulary.adds_eos,
    }
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    for name, key in names.items():
        if (token := vocabulary.special(name)) is not None:
            config[f"{key}_token"] = token
    template = vocabulary.fields.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return config


def texts(file: GgufFile, name: str) -> list[str]:
    """Return the strings in `tokenizer.ggml.<name>`.

    Raises:
        ModelError: the field is missing or empty.
    """
    value = file.fields.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, list) or not value:
        raise ModelError(f"{file.path}: incomplete GGUF file: it has no tokenizer.ggml.{name}")
    return value


def numbers(file: GgufFile, name: str, count: int, default: Any) -> list[Any]:
    """Return the `count` numbers in `tokenizer.ggml.<name>`; `default` for each if it is missing.

    Raises:
        ModelError: the field does not have `count` numbers.
    """
    value = file.fields.get(f"tokenizer.ggml.{name}")
    if value is None:
        return [default] * count
    if not hasattr(value, "tolist") or len(value) != count:
        raise ModelError(f"{file.path}: damaged GGUF file: tokenizer.ggml.{name} has a wrong size")
    return list(value.tolist())


def _piece(token: str, kind: int) -> str:
    """Return the SentencePiece form of a token: user-defined runs of spaces are stored plain."""
    if kind == USER_DEFINED and not token.strip(" "):
        return token.replace(" ", SPACE_PIECE)
    return token
