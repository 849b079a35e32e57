"""A text that cannot fit is refused before all of it is tokenized."""

from __future__ import annotations

import pytest

from blendin_mlx.errors import PromptError
from blendin_mlx.generation import stream_generate
from blendin_mlx.reading import room


@pytest.fixture
def counted(tiny_pair, monkeypatch):
    """A pair, and how many characters its base tokenizes of what is checked."""
    pair = tiny_pair("qwen3", "qwen3")
    seen = []
    vocabulary, encode = pair.base.vocabulary, pair.base.vocabulary.encode

    def count(text):
        seen.append(len(text))
        return encode(text)

    monkeypatch.setattr(vocabulary, "encode", count)
    return pair, seen


def test_bytes_are_counted_first(counted):
    pair, seen = counted
    with pytest.raises(PromptError, match=r"the prompt has more than \d+ tokens for tiny base"):
        stream_generate(pair, "The sea. " * 2_000_000)
    assert seen == []


def test_parts_are_tokenized_until_the_limit(counted):
    pair, seen = counted
    with pytest.raises(PromptError, match="whose context holds 4096; shorten it"):
        stream_generate(pair, "The sea. " * 50_000)
    assert seen == [room.PART]


def test_what_fits_is_read(counted):
    pair, _ = counted
    pair.limit_context(500_000)
    room.check_fits(pair.base, "The sea. " * 20_000)
    room.check_fits(pair.base, [{"role": "user", "content": "The sea. " * 20_000}, {"content": 1}])
    pair.limit_context(None)
