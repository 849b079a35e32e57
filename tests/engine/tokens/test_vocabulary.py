"""A tokenizer seen as bytes: what is encoded is written, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.errors import PairError
from blendin_mlx.tokens.vocabulary import Vocabulary
from texts import ALL_TOKENIZERS, LOST, PUBLISHED, TEXTS, random_text, written_bytes
from tiny import sentencepiece_tokenizer

Vocabularies = Callable[[str], Vocabulary]
every_tokenizer = pytest.mark.parametrize("name", ALL_TOKENIZERS)


def assert_written(vocabulary: Vocabulary, name: str, text: str) -> None:
    ids = vocabulary.encode(text)
    assert vocabulary.bytes_of(ids) == written_bytes(name, text)
    assert all(vocabulary.token_bytes[token] is not None for token in ids)


@every_tokenizer
@settings(deadline=None, max_examples=200)
@given(text=TEXTS)
def test_the_tokens_of_a_text_write_that_text(
    vocabulary: Vocabularies, name: str, text: str
) -> None:
    assert_written(vocabulary(name), name, text)


@every_tokenizer
def test_the_tokens_of_thousands_of_mixed_texts_write_them(
    vocabulary: Vocabularies, name: str
) -> None:
    rng = random.Random(name)
    for _ in range(3000):
        assert_written(vocabulary(name), name, random_text(rng, rng.randrange(1, 8)))


@every_tokenizer
def test_every_character_of_the_first_planes_writes_itself(
    vocabulary: Vocabularies, name: str
) -> None:
    blocks = (range(start, start + 64) for start in range(0, 0x20000, 64))
    for block in blocks:
        text = ".".join(chr(code) for code in block if not 0xD800 <= code < 0xE000)
        # Unassigned today, composed tomorrow: normalisers differ in the Unicode they know.
        if name != "qwen3" or text.isprintable():
            assert_written(vocabulary(name), name, text)


@every_tokenizer
def test_a_control_token_spelled_in_a_text_stays_text(vocabulary: Vocabularies, name: str) -> None:
    chosen = vocabulary(name)
    assert chosen.special_spellings
    for spelling in chosen.special_spellings:
        assert_written(chosen, name, f"a {spelling}b{spelling}{spelling} \n{spelling}")
        assert chosen.bytes_of(chosen.encode_marked(spelling)).strip() == b""


@every_tokenizer
def test_encoding_marked_text_leaves_plain_encoding_as_it_was(
    vocabulary: Vocabularies, name: str
) -> None:
    chosen = vocabulary(name)
    text = f"x{chosen.special_spellings[0]}y"
    plain = chosen.encode(text)
    assert chosen.encode_marked(text) != plain
    assert chosen.encode(text) == plain


@every_tokenizer
def test_control_and_stop_tokens_write_nothing(vocabulary: Vocabularies, name: str) -> None:
    chosen = vocabulary(name)
    added: Any = chosen._tokenizer.get_added_tokens_decoder()
    special = {token for token, entry in added.items() if entry.special}
    silent = [t for t in {*special, *chosen.stop_ids} if t < chosen.size]
    assert silent
    assert all(chosen.token_bytes[token] is None for token in silent)
    assert chosen.bytes_of(silent) == b""


def test_a_word_that_ends_answers_writes_nothing() -> None:
    ordinary = Vocabulary(sentencepiece_tokenizer("prepend"), size=400, stop_ids=[2])
    assert ordinary.token_bytes[270]
    stopping = Vocabulary(sentencepiece_tokenizer("prepend"), size=400, stop_ids=[2, 270])
    assert stopping.token_bytes[270] is None
    assert 270 not in stopping.by_bytes.values()


def test_the_bytes_that_smollm2_loses_are_the_known_ones(vocabulary: Vocabularies) -> None:
    chosen = vocabulary("smollm2")
    single = {written for written in chosen.token_bytes if written and len(written) == 1}
    missing = {byte for byte in range(256) if bytes([byte]) not in single}
    possible = missing - {0xC0, 0xC1, *range(0xF5, 0x100)}  # these are in no UTF-8 text
    assert bytes(sorted(possible)) == LOST
    assert chosen.encode("\x04") == []
    assert chosen.bytes_of(chosen.encode("a\x1db")) == b"ab"


def test_gemma_writes_its_runs_of_spaces_as_spaces(vocabulary: Vocabularies) -> None:
    chosen = vocabulary("gemma3")
    (token,) = chosen.encode(" " * 7)
    assert chosen.token_bytes[token] == b" " * 7


@pytest.mark.parametrize("kind", ["prepend", "metaspace"])
def test_no_space_is_added_where_the_tokenizer_would_put_one(kind: str) -> None:
    tokenizer = sentencepiece_tokenizer(kind)
    chosen = Vocabulary(tokenizer, size=1000, stop_ids=[2])
    assert chosen.bytes_of(chosen._plain("the")) == b" the"  # what must be undone
    for text in ("the", " the", "\nthe", "\n\n\nthe", "", "▁", "\x01\x01"):
        assert_written(chosen, "sentencepiece", text)
    assert chosen.bytes_of(chosen.encode_marked("the", continues=True)) == b"the"


def test_a_tokenizer_that_cuts_and_fills_its_texts_does_so_no_more() -> None:
    tokenizer = sentencepiece_tokenizer("prepend")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64, pad_id=1)
    chosen = Vocabulary(tokenizer, size=1000, stop_ids=[2])
    assert_written(chosen, "sentencepiece", "the the the the the")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_byte_string_is_known_by_a_token_that_writes_it(
    vocabulary: Vocabularies, name: str
) -> None:
    chosen = vocabulary(name)
    assert all(chosen.token_bytes[token] == key for key, token in chosen.by_bytes.items())
    assert set(chosen.by_bytes) == {written for written in chosen.token_bytes if written}


def test_a_byte_token_stands_for_its_byte_only_where_no_other_token_writes_it() -> None:
    tokenizer = sentencepiece_tokenizer("prepend")
    chosen = Vocabulary(tokenizer, size=1000, stop_ids=[2])
    ids = tokenizer.get_vocab()
    for char in "abz.,\n":
        assert chosen.by_bytes[char.encode()] == ids[char]
    assert chosen.by_bytes[b" "] == ids["▁"]
    assert chosen.by_bytes[b"A"] == ids["<0x41>"]
    assert chosen.by_bytes[b"\xe2"] == ids["<0xE2>"]


@given(more=st.integers(0, 100))
def test_logits_beyond_the_ids_are_cut(more: int) -> None:
    tokenizer = sentencepiece_tokenizer("prepend")
    count = len(tokenizer.get_vocab())
    chosen = Vocabulary(tokenizer, size=count + more, stop_ids=[2, 5000])
    assert chosen.size == count
    assert len(chosen.token_bytes) == chosen.size
    assert all(token < chosen.size for token in chosen.by_bytes.values())
    assert chosen.stop_ids == (2,)


@given(size=st.integers(3, 295))
def test_a_model_with_fewer_rows_than_its_tokenizer_has_tokens_is_refused(size: int) -> None:
    with pytest.raises(PairError, match=f"has tokens up to 295, its weights have {size} rows"):
        Vocabulary(sentencepiece_tokenizer("prepend"), size=size, stop_ids=[2])


@pytest.mark.parametrize("decoder", [None, "WordPiece", "CTC"])
def test_a_tokenizer_whose_bytes_cannot_be_known_is_refused_by_name(decoder: str | None) -> None:
    from tokenizers import decoders

    tokenizer = sentencepiece_tokenizer("prepend")
    if decoder is None:
        tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.backend_tokenizer.decoder = getattr(decoders, decoder)()
    with pytest.raises(PairError, match=rf"^mine: tokens decoded by {decoder or 'Fuse'} "):
        Vocabulary(tokenizer, size=300, stop_ids=[2], name="mine")


def test_a_slow_tokenizer_is_refused_by_name() -> None:
    with pytest.raises(PairError, match=r"^mine: its tokenizer has no tokenizer\.json"):
        Vocabulary(object(), size=10, stop_ids=[1], name="mine")


@pytest.mark.parametrize("stop_ids", [[], [300, 4000]])
def test_a_vocabulary_without_stop_token_is_refused(stop_ids: list[int]) -> None:
    tokenizer = sentencepiece_tokenizer("prepend")
    with pytest.raises(PairError, match=r"^mine: no stop token is known"):
        Vocabulary(tokenizer, size=300, stop_ids=stop_ids, name="mine")


@given(
    stops=st.lists(st.integers(0, 290), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 3),
)
def test_pooling_moves_all_of_the_stop_class_to_one_token(
    stops: list[int], seed: int, rows: int
) -> None:
    chosen = Vocabulary(sentencepiece_tokenizer("prepend"), size=300, stop_ids=stops)
    size = chosen.size
    probs = np.random.default_rng(seed).dirichlet(np.ones(size), size=rows).astype(np.float32)
    inside = [stop for stop in stops if stop < size]
    pooled = np.array(chosen.pool_stop(mx.array(probs)))
    np.testing.assert_allclose(pooled.sum(axis=-1), probs.sum(axis=-1), atol=1e-6)
    np.testing.assert_allclose(pooled[:, chosen.stop], probs[:, inside].sum(axis=-1), rtol=1e-5)
    others = [t for t in range(size) if t not in inside]
    assert (pooled[:, others] == probs[:, others]).all()
    assert (pooled[:, [t for t in inside if t != chosen.stop]] == 0).all()


@given(stops=st.permutations([2, 7, 40, 41]), seed=st.integers(0, 2**31))
def test_the_order_of_the_stop_tokens_does_not_matter(stops: list[int], seed: int) -> None:
    tokenizer = sentencepiece_tokenizer("prepend")
    probs = mx.array(np.random.default_rng(seed).dirichlet(np.ones(296)).astype(np.float32))
    one, other = (
        Vocabulary(tokenizer, size=296, stop_ids=ids) for ids in (stops, [2, 7, 40, 41, 40])
    )
    assert one.stop == other.stop == 2
    assert one.pool_stop(probs).tolist() == other.pool_stop(probs).tolist()


@given(seed=st.integers(0, 2**31))
def test_moving_mass_within_the_stop_class_changes_nothing(seed: int) -> None:
    chosen = Vocabulary(sentencepiece_tokenizer("prepend"), size=296, stop_ids=[2, 7, 40])
    probs = np.random.default_rng(seed).dirichlet(np.ones(296)).astype(np.float32)
    moved = probs.copy()
    moved[[2, 7, 40]] = probs[[40, 2, 7]]
    one, other = (chosen.pool_stop(mx.array(p)) for p in (probs, moved))
    np.testing.assert_allclose(one, other, rtol=1e-6)
