"""Vocabularies of many kinds, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from blendin_mlx.tokens.vocabulary import Vocabulary
from tiny import load_tokenizer, sentencepiece_tokenizer, size_of


@pytest.fixture(scope="session")
def vocabulary(
    published_tokenizer: Callable[[str], Path], request: pytest.FixtureRequest
) -> Callable[[str], Vocabulary]:
    """One of ``texts.ALL_TOKENIZERS`` as a vocabulary, made once."""

    @cache
    def make(name: str) -> Vocabulary:
        if name in ("smollm2", "gemma-imported"):
            folders = request.getfixturevalue("demo_folders")
            folder: Path = folders.aligned if name == "smollm2" else folders.base
            tokenizer = load_tokenizer(folder / "tokenizer.json")
        elif name.startswith("sentencepiece"):
            tokenizer = sentencepiece_tokenizer(name.removeprefix("sentencepiece-"))
        else:
            tokenizer = load_tokenizer(published_tokenizer(name))
        size = size_of(tokenizer)
        return Vocabulary(tokenizer, size=size, stop_ids=[tokenizer.eos_token_id], name=name)

    return make
