"""The tokenizer of an import, rule by rule, on small vocabularies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from blendin_models.errors import ModelError
from blendin_models.gguf.file import GgufFile
from blendin_models.gguf.tokenizer import build_tokenizer
from blendin_models.gguf.vocabulary import read_vocabulary, tokenizer_config
from gguf_samples import BYTES, MERGES, SPECIAL, TOKENS

SPACES = ["▁▁", "▁▁▁"]
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
PIECES += ["  ", "   ", "<whole>", "▁", "a", "b", "ab", "▁a", "▁ab"]
PIECE_TYPES = [2, 3, 3, *[6] * 256, 4, 4, 4, *[1] * 6]
SCORES = [0.0] * 3 + [0.0] * 256 + [-1000.0] * 3 + [-9.0, -7.0, -8.0, -1.0, -2.0, -3.0]


def byte_level(**changes: Any) -> GgufFile:
    fields = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": TOKENS,
        "token_type": np.array([SPECIAL.get(token, 1) for token in TOKENS]),
        "merges": MERGES,
        "bos_token_id": TOKENS.index("<s>"),
        "eos_token_id": TOKENS.index("</s>"),
    }
    return as_file(fields | changes)


def pieces(**changes: Any) -> GgufFile:
    fields = {
        "model": "llama",
        "tokens": PIECES,
        "token_type": np.array(PIECE_TYPES),
        "scores": np.array(SCORES, np.float32),
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return as_file(fields | changes)


def as_file(fields: dict[str, Any]) -> GgufFile:
    named = {f"tokenizer.ggml.{name}": value for name, value in fields.items() if value is not None}
    return GgufFile(Path("sample.gguf"), named, {})


def built(file: GgufFile) -> Tokenizer:
    return build_tokenizer(file, read_vocabulary(file))


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    tokens: list[str] = tokenizer.encode(text).tokens
    return tokens


def test_byte_level_merges_by_rank_and_decodes_to_the_same_text() -> None:
    tokenizer = built(byte_level())
    assert spelled(tokenizer, "the the th") == ["the", "Ġthe", "Ġ", "th"]
    for text in ("naïve 漢字 🧑‍🚀\t\r\n", "  a  ", "\x00\x7f\xa0"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_control_tokens_are_special_and_user_defined_ones_are_not() -> None:
    tokenizer = built(byte_level())
    ids = tokenizer.encode("a<s>b<whole>c</s>").ids
    assert [TOKENS[i] for i in ids] == ["a", "<s>", "b", "<whole>", "c", "</s>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab<whole>c"


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("smollm", ["ab", " cd", "1", "2", "3", "4", ".", "\n  ", " x", "'", "S"]),
        ("gpt-2", ["ab", " cd", "1234", ".", "\n  ", " x", "'", "S"]),
        ("default", ["ab", " cd", "1234", ".", "\n  ", " x", "'", "S"]),
        ("llama-bpe", ["ab", " cd", "123", "4", ".\n", "  ", " x", "'S"]),
        ("qwen2", ["ab", " cd", "1", "2", "3", "4", ".\n", "  ", " x", "'S"]),
    ],
)
def test_each_pre_tokenizer_cuts_words_in_its_own_way(pre: str, words: list[str]) -> None:
    text = "ab cd1234.\n   x'S"
    step = built(byte_level(pre=pre)).pre_tokenizer
    spans = [text[start:end] for _, (start, end) in step.pre_tokenize_str(text)]
    assert spans == words


@pytest.mark.parametrize(
    ("pre", "name"), [("llama-bpe", "llama3_1"), ("qwen2", "qwen3")], ids=["llama", "qwen"]
)
def test_published_vocabularies_come_back_from_gguf_fields(
    pre: str, name: str, published_tokenizer: Callable[[str], Path]
) -> None:
    """A published tokenizer stored as GGUF fields is rebuilt unchanged."""
    path = published_tokenizer(name)
    content = json.loads(path.read_text(encoding="utf-8"))
    tokens = {index: token for token, index in content["model"]["vocab"].items()}
    kinds = dict.fromkeys(tokens, 1)
    for added in content["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = 3 if added["special"] else 4
    count = max(tokens) + 6  # padded, as an embedding is
    merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    file = byte_level(
        pre=pre,
        tokens=[tokens.get(index, f"[PAD{index}]") for index in range(count)],
        token_type=np.array([kinds.get(index, 5) for index in range(count)]),
        merges=merges,
        bos_token_id=128000 if name == "llama3_1" else None,
        eos_token_id=None,
    )
    ours, theirs = built(file), Tokenizer.from_file(str(path))
    texts = [
        "Hello, I'LL pay 12345.67 € — 漢字かな 🧑‍🚀\n\n\n  x\t\r\n  ",
        "e\u0301 é ﬁ \u212b [PAD128300] <|eot_id|><|im_start|>user\n<think></think>",
        "def f(x):\n\treturn  x",
        "مرحبا بالعالم ٣٤٥ नमस्ते привет\u00a0\u2003\u200b",
        "",
        *(token for token in list(tokens.values())[::4001]),
    ]
    for text in texts:
        assert ours.encode(text).ids == theirs.encode(text).ids, text
        ids = theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids)


def test_pieces_merge_by_score_and_runs_of_spaces_by_length() -> None:
    tokenizer = built(pieces(add_space_prefix=False, add_bos_token=False))
    assert spelled(tokenizer, "ab") == ["ab"]
    # ▁a (score -2) before ab (-1)? No: the better score goes first, and ▁ab needs ▁ and ab.
    assert spelled(tokenizer, " ab") == ["▁ab"]
    assert spelled(tokenizer, "a     b") == ["a", "▁▁▁", "▁▁", "b"]
    assert spelled(tokenizer, "é") == ["<0xC3>", "<0xA9>"]
    assert spelled(tokenizer, "▁▁<whole>") == ["▁▁", "<whole>"]


@pytest.mark.parametrize("prefix", [True, False])
def test_the_space_prefix_is_added_and_stripped(prefix: bool) -> None:
    tokenizer = built(pieces(add_space_prefix=prefix, add_bos_token=False))
    assert spelled(tokenizer, "ab") == (["▁ab"] if prefix else ["ab"])
    for text in ("ab", "a b", "  漢 ", "a\n"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (pieces(), ["<s>", "▁a"]),
        (pieces(add_bos_token=False), ["▁a"]),
        (pieces(add_eos_token=True), ["<s>", "▁a", "</s>"]),
        (pieces(bos_token_id=None), ["▁a"]),
        (byte_level(), ["a"]),
        (byte_level(add_bos_token=True), ["<s>", "a"]),
        (byte_level(pre="llama-bpe"), ["<s>", "a"]),
    ],
)
def test_text_begins_and_ends_as_the_file_says(file: GgufFile, expected: list[str]) -> None:
    assert spelled(built(file), "a") == expected


def test_unused_tokens_are_left_out() -> None:
    kinds = [5 if token == "the" else SPECIAL.get(token, 1) for token in TOKENS]
    file = byte_level(token_type=np.array(kinds), merges=["t h"])
    assert "the" not in built(file).get_vocab()


def test_settings_name_the_special_tokens_and_the_template() -> None:
    file = pieces()
    file.fields["tokenizer.chat_template"] = "{{ messages }}"
    config = tokenizer_config(read_vocabulary(file), 64)
    assert config == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 64,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": "{{ messages }}",
    }


@pytest.mark.parametrize(
    ("file", "named"),
    [
        (byte_level(model="bert"), "'bert'"),
        (byte_level(model=None), "None"),
        (byte_level(pre="tekken"), "'tekken'"),
        (byte_level(pre=None), "no tokenizer.ggml.pre"),
        (byte_level(tokens=[*TOKENS, "x" * 1025], token_type=None), "has 1025 characters"),
        (byte_level(tokens=None), "tokenizer.ggml.tokens"),
        (byte_level(merges=None), "tokenizer.ggml.merges"),
        (byte_level(merges=["t zebra"]), "zebra"),
        (byte_level(merges=["t\n\nz h"]), "damaged"),
        (byte_level(token_type=np.array([1])), "token_type has a wrong size"),
        (byte_level(tokens=[*BYTES, BYTES[5]], token_type=None), "appears twice"),
        (byte_level(eos_token_id=10**6), "eos_token_id"),
        (pieces(scores=None), "tokenizer.ggml.scores"),
        (pieces(scores=np.array([1.0])), "scores has a wrong size"),
    ],
)
def test_an_unusable_vocabulary_is_named_in_one_line(file: GgufFile, named: str) -> None:
    def everything() -> None:
        vocabulary = read_vocabulary(file)
        build_tokenizer(file, vocabulary)
        tokenizer_config(vocabulary, 64)

    with pytest.raises(ModelError) as error:
        everything()
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert "sample.gguf" in str(error.value)
