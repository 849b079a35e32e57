"""Texts that are hard for tokenizers, drawn at random, and what each tokenizer makes of them."""

from __future__ import annotations

import random
import unicodedata

from hypothesis import strategies as st

PUBLISHED = ("llama3_1", "qwen3", "gemma3")
ALL_TOKENIZERS = (
    *PUBLISHED,
    *("smollm2", "gemma-imported", "sentencepiece-prepend", "sentencepiece-metaspace"),
)

PIECES = (
    *("the", " sea", " is", " Not", "naïve", "don't", "I'LL", " x", "e\u0301", "A\u030a", "œuvre"),
    *(" ", "  ", "   ", " " * 9, " " * 40, "\t", "\t\t\t", "\n", "\n\n", "\n" * 7, " \n", "\r\n"),
    *("0", "42", "1234567", "3.14", "1,000,000", "٣٤", "²", "½", "Ⅷ", "0x1F"),
    *(".", ",", ";", ":", "!", "?", "(", ")", "[", "]", '"', "...", "?!", "),", '":', "']", ").\n"),
    *("def f(x):\n    return x\n", "a_b", "__init__", "<h1>", "</div>", "=>", "==" * 9, "{}", "#"),
    *("👍", "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "🇩🇪", "☃", "\ufe0f", "𝔘", "😀😀"),
    *(
        "漢字",
        "日本語の",
        "文章です",
        "。",
        "、",
        "，你好",
        "「世界」",
        "一二三四五六七八九十",
        "ー",
        "・",
    ),
    *("한국어", "각", "สวัสดี", "ภาษา", "हिन्दी", "नमस्ते ", "العربية", "עברית", "Ελλάδα", "Привет"),
    *("\x00", "\x07", "\x1b[1m", "\x7f", "\x85", "\u200b", "\u202e", "\ufeff", "\u00a0", "\u2028"),
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_"),
    *(
        "<start_of_turn>",
        "<end_of_turn>",
        "<bos>",
        "<eos>",
        "<pad>",
        "<think>",
        "<unused7>",
        "▁",
        "▁▁",
    ),
)
ORDINARY = st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=12)
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), ORDINARY), max_size=12).map("".join)

# SmolLM2's vocabulary has no token for these.
LOST = bytes([0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2])


def random_text(rng: random.Random, pieces: int) -> str:
    """So many pieces, one after the other."""
    return "".join(rng.choice(PIECES) for _ in range(pieces))


def written_bytes(name: str, text: str) -> bytes:
    """The bytes that the tokens of a text write, by the tokenizer's normaliser."""
    if name == "qwen3":
        return unicodedata.normalize("NFC", text).encode()
    if name.startswith(("gemma", "sentencepiece")):
        return text.replace("▁", " ").encode()
    if name == "smollm2":
        return text.encode().translate(None, LOST)
    return text.encode()
