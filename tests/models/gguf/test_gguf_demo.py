"""The demo pair's real files: tokens as published, logits as of their dequantized weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, load_model
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from blendin_mlx.backend.mlx import mx
from blendin_models.gguf.blocks import floats
from blendin_models.gguf.file import read_gguf
from gguf_samples import gguf_name, logits

FRAGMENTS = [
    *(" " * count for count in (1, 2, 3, 7, 15, 31, 32, 33, 70)),
    *("\n" * count for count in (1, 2, 5, 31, 32, 40)),
    *("\t" * count for count in (1, 2, 5, 31, 33)),
    *("\r\n", "\r", "\x00", "\x0b", "\x1c", "\x7f", "\x85", "\xa0", "\u2003", "\u200b", "\ufeff"),
    *("▁", "▁▁", "▁▁▁▁", "Ġ", "<0x0A>", "<0xE2>", "</s>", "<s>", "<br>", "<table>", "</h1>"),
    *("<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "[multimodal]", "<unused0>", "<unused99>"),
    *("<unused6241>", "<unused", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<filename>", "<|im_", "<repo_name>"),
    *("def f(x):\n    return x**2  # ok", "for (int i=0;i<10;++i){}", "a->b && c||d"),
    *("https://x.y/z?q=1", "a@b.org", "C:\\x", "Hello", " world", "don't", "I'LL", "naïve"),
    *("e\u0301", "ﬁ", "Straße", "İstanbul", "ǅ", "漢字", "かな交じり文", "한국어", "ไทย", "हिन्दी"),
    *("مرحبا", "שלום", "привет", "Ελλάδα", "𝒳𝔜", "𓀀", "😀", "🇫🇷", "☕\ufe0f", "🧑🏽\u200d🚀"),
    *("👩\u200d👩\u200d👧\u200d👦", "\ud7ff", "\ue000", "\U0010ffff", "٣٤٥", "½", "Ⅷ", "x²"),
    *("0", "12", "12345", "3.14", "1,000,000", "2026-11-23", "$5", "%", "@me", "#tag", "{}"),
    *(".", "...", "!?", "—", "“q”", "[[", "\\n", '"', "'s"),
]


def varied_texts(count: int) -> Iterator[str]:
    yield from ["", *FRAGMENTS]
    rng = random.Random(20)
    for _ in range(count):
        yield "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 12)))


TEXT = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=" \n\t▁ab<>_0", max_size=60),
    st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join),
)


@pytest.fixture(scope="module")
def published_gemma(published_tokenizer: Callable[[str], Path]) -> Tokenizer:
    return Tokenizer.from_file(str(published_tokenizer("gemma3")))


@pytest.fixture(scope="module")
def gemma(demo_folders: Any) -> Tokenizer:
    return Tokenizer.from_file(str(demo_folders.base / "tokenizer.json"))


class TestGemma:
    def test_tokens_agree_with_the_published_tokenizer(
        self, gemma: Tokenizer, published_gemma: Tokenizer
    ) -> None:
        for text in varied_texts(4000):
            expected = published_gemma.encode(text).ids
            assert gemma.encode(text).ids == expected, repr(text)
            decoded = published_gemma.decode(expected, skip_special_tokens=False)
            assert gemma.decode(expected, skip_special_tokens=False) == decoded

    @settings(max_examples=1000, deadline=None)
    @given(text=TEXT)
    def test_tokens_agree_on_any_text(
        self, gemma: Tokenizer, published_gemma: Tokenizer, text: str
    ) -> None:
        assert gemma.encode(text).ids == published_gemma.encode(text).ids

    def test_every_token_agrees(self, gemma: Tokenizer, published_gemma: Tokenizer) -> None:
        ours, theirs = gemma.get_vocab(), published_gemma.get_vocab()
        # The published vocabulary has one token more than the model has embeddings: an image's.
        assert theirs.items() - ours.items() == {("<image_soft_token>", 262144)}
        assert not ours.items() - theirs.items()

    def test_transformers_loads_the_same_tokenizer(
        self, demo_folders: Any, gemma: Tokenizer
    ) -> None:
        loaded = AutoTokenizer.from_pretrained(demo_folders.base)
        for text in FRAGMENTS:
            assert loaded.encode(text) == gemma.encode(text).ids
        assert (loaded.bos_token_id, loaded.eos_token_id) == (2, 1)
        assert (loaded.unk_token_id, loaded.pad_token_id) == (3, 0)


def byte_letters() -> dict[int, str]:
    """Return GPT-2's character for each byte: itself if printable, else the next one from 256."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    letters = {byte: chr(byte) for byte in seen}
    return letters | {byte: chr(256 + index) for index, byte in enumerate(hidden)}


class SlowTokenizer:
    """A direct transcription of SmolLM2's tokenizer that reads the GGUF file's own fields."""

    LETTERS = byte_letters()
    # \s of the regex package also takes the separators \x1c to \x1f, which are not White_Space.
    SPACE = r"\p{White_Space}"
    WORD = regex.compile(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+"
        rf"| ?[^{SPACE}\p{{L}}\p{{N}}]+|{SPACE}+(?!\P{{White_Space}})|{SPACE}+"
    )

    def __init__(self, path: Path) -> None:
        fields = read_gguf(path).fields
        tokens = fields["tokenizer.ggml.tokens"]
        types = fields["tokenizer.ggml.token_type"]
        self.ids = {token: index for index, token in enumerate(tokens)}
        merges = fields["tokenizer.ggml.merges"]
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        special = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
        longest_first = sorted(special, key=len, reverse=True)
        self.special = regex.compile(f"({'|'.join(map(regex.escape, longest_first))})")
        self.merged = cache(self._merged)

    def encode(self, text: str) -> list[int]:
        return [self.ids[token] for token in self._tokens(text)]

    @property
    def unknown_bytes(self) -> list[int]:
        return [byte for byte, letter in self.LETTERS.items() if letter not in self.ids]

    def _tokens(self, text: str) -> Iterator[str]:
        for part in self.special.split(text):
            if self.special.fullmatch(part):
                yield part
                continue
            for piece in regex.findall(r"\p{N}|\P{N}+", part):
                for word in self.WORD.findall(piece):
                    yield from self.merged(word)

    def _merged(self, word: str) -> list[str]:
        # SmolLM2 has no token for some bytes (below): the tokenizers library leaves those out
        # before it merges, so what stood on either side of one may become one token.
        letters = [self.LETTERS[byte] for byte in word.encode()]
        parts = [letter for letter in letters if letter in self.ids]
        while len(parts) > 1:
            pairs = enumerate(pairwise(parts))
            ranked = [(self.ranks.get(pair, len(self.ranks)), at) for at, pair in pairs]
            rank, at = min(ranked)
            if rank == len(self.ranks):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return parts


@pytest.fixture(scope="module")
def slow(demo_gguf: Any) -> SlowTokenizer:
    return SlowTokenizer(demo_gguf.aligned)


@pytest.fixture(scope="module")
def smollm(demo_folders: Any) -> Any:
    return AutoTokenizer.from_pretrained(demo_folders.aligned)


class TestSmolLM:
    def test_tokens_follow_the_merges_of_the_file(self, smollm: Any, slow: SlowTokenizer) -> None:
        for text in varied_texts(2000):
            assert smollm.encode(text) == slow.encode(text), repr(text)

    @settings(max_examples=500, deadline=None)
    @given(text=TEXT)
    @example(text="/\x06/")
    def test_tokens_agree_on_any_text(self, smollm: Any, slow: SlowTokenizer, text: str) -> None:
        ids = smollm.encode(text)
        assert ids == slow.encode(text)
        if not set(text.encode()) & set(slow.unknown_bytes):
            assert smollm.decode(ids) == text

    def test_it_lacks_six_control_characters_and_bytes_of_unassigned_planes(
        self, slow: SlowTokenizer
    ) -> None:
        """The import is not to blame: the published model drops such characters too."""
        never_in_utf8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
        missing = set(slow.unknown_bytes) - never_in_utf8
        assert missing == {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}

    def test_the_chat_template_is_the_one_in_the_file(self, smollm: Any) -> None:
        messages = [{"role": "user", "content": "Hi"}]
        text = smollm.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        assert smollm.eos_token == "<|im_end|>"


# Short: MLX's quantized products are slow on a CPU.
PASSAGE = "The capital of France is Paris, and the capital of Germany is Berlin."


def dequantized_model(gguf_path: Path, config: dict[str, Any], architecture: str) -> Any:
    """Build mlx-lm's model in float32 from the file's own values, without the importer."""
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    if "lm_head" in model:
        model.tie_word_embeddings = True
        model.pop("lm_head")
    tensors = read_gguf(gguf_path).tensors
    weights = []
    for name, _ in tree_flatten(model.parameters()):
        values = floats(tensors[gguf_name(name, architecture)])
        if architecture == "gemma3" and "norm" in name:
            values = values - 1
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if architecture == "llama" and part in name:
                values = np.concatenate(
                    [
                        np.concatenate([head[0::2], head[1::2]])
                        for head in np.split(values, config[heads])
                    ]
                )
        weights.append((name, mx.array(values)))
    model.load_weights(weights)
    return model


@pytest.mark.parametrize(
    ("role", "architecture", "tolerance"),
    # SmolLM2's file has only blocks that are kept as they are; Gemma's has nine matrices of Q6_K.
    [("base", "gemma3", 2e-2), ("aligned", "llama", 1e-4)],
    ids=["gemma", "smollm"],
)
def test_logits_are_those_of_the_dequantized_file(
    demo_gguf: Any, demo_folders: Any, role: str, architecture: str, tolerance: float
) -> None:
    folder = getattr(demo_folders, role)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(PASSAGE).ids
    model, config = load_model(folder)
    found = logits(model, ids)
    del model
    expected = logits(dequantized_model(getattr(demo_gguf, role), config, architecture), ids)
    scale = expected.max(-1) - np.median(expected, -1)
    assert (np.abs(found - expected).max(-1) <= tolerance * scale).all()
    # Where the two disagree on the best token, it is a near-tie in the expected logits.
    best = np.take_along_axis(expected, found.argmax(-1)[:, None], -1)[:, 0]
    assert (expected.max(-1) - best <= 2 * tolerance * scale).all()
    # And both predict the text well: a wrong import would be near ln(vocabulary) > 10.
    logs = found - np.logaddexp.reduce(found, axis=-1, keepdims=True)
    loss = -np.mean([logs[at, token] for at, token in enumerate(ids[1:])])
    assert loss < 4.5
