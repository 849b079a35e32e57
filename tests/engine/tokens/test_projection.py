"""φ between vocabularies: what writes the same goes together, and no mass is lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blendin_mlx.backend.mlx import mx
from blendin_mlx.tokens.projection import Projection, same_vocabulary
from blendin_mlx.tokens.vocabulary import Vocabulary
from oracle import is_text
from texts import PUBLISHED
from tiny import sentencepiece_tokenizer

Vocabularies = Callable[[str], Vocabulary]
Array = npt.NDArray[Any]
PAIRS = tuple(permutations(PUBLISHED, 2))
every_pair = pytest.mark.parametrize(("base", "aligned"), PAIRS)
# Vocabularies that lack bytes, that add spaces, and the demo pair both ways.
OTHERS = (
    ("smollm2", "gemma-imported"),
    ("gemma-imported", "smollm2"),
    ("sentencepiece-prepend", "qwen3"),
    ("llama3_1", "sentencepiece-metaspace"),
)


@pytest.fixture(scope="module")
def projection(vocabulary: Vocabularies) -> Callable[[str, str], Projection]:
    """φ for two of the tokenizers, made once."""
    return cache(lambda base, aligned: Projection(vocabulary(base), vocabulary(aligned)))


def random_distribution(size: int, seed: int = 0, rows: int = 2) -> mx.array:
    """Mass on a few tokens and a little on all of them."""
    weights = np.random.default_rng(seed).pareto(1.0, size=(rows, size))
    return mx.array((weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32))


def small(stop_ids: list[int], size: int = 400) -> Vocabulary:
    return Vocabulary(sentencepiece_tokenizer("prepend"), size=size, stop_ids=stop_ids)


Projections = Callable[[str, str], Projection]


@pytest.mark.parametrize(("base", "aligned"), [*PAIRS, *OTHERS])
def test_a_token_goes_to_one_that_writes_the_same_or_its_beginning(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    for token, target in enumerate(made.table):
        written = made.aligned.token_bytes[token]
        if token == made.aligned.stop or target == made.base.size:
            continue
        there = made.base.token_bytes[target]
        assert written
        assert there
        assert written.startswith(there)
        assert (there == written) == (written in made.base.by_bytes)


@pytest.mark.parametrize(("base", "aligned"), [*PAIRS, *OTHERS[:2]])
def test_a_token_that_the_base_writes_as_one_goes_to_just_that_one(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    written = made.aligned.token_bytes
    texts = {token: text for token, one in enumerate(written) if (text := as_text(one))}
    tokenizer = made.base._tokenizer
    tokenizer.encode_special_tokens = True
    own = tokenizer.encode_batch_fast(list(texts.values()), add_special_tokens=False)
    tokenizer.encode_special_tokens = False
    single = {t: one.ids[0] for t, one in zip(texts, own, strict=True) if len(one.ids) == 1}
    just = {t: there for t, there in single.items() if made.base.token_bytes[there] == written[t]}
    assert len(just) > 100
    assert {t: made.table[t] for t in just} == just


@pytest.mark.parametrize(("base", "aligned"), OTHERS[2:])
def test_so_it_does_where_the_base_adds_spaces(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    checked = 0
    for token in range(0, made.aligned.size, 5):
        written = made.aligned.token_bytes[token]
        own = made.base.encode(as_text(written))
        if len(own) == 1 and made.base.token_bytes[own[0]] == written:
            assert made.table[token] == own[0]
            checked += 1
    assert checked


def as_text(written: bytes | None) -> str:
    """What a token writes; nothing where that is no text."""
    return written.decode() if written and is_text(written) else ""


def test_single_characters_go_to_pieces_and_not_to_bytes(projection: Projections) -> None:
    made = projection("gemma-imported", "smollm2")
    for char in ".,:;!?1234567890ABCXYZabcxyz\n":
        target = made.table[made.aligned.encode(char)[0]]
        assert made.base._tokenizer.id_to_token(target) == char


@every_pair
def test_what_does_not_match_goes_where_the_bases_own_tokenization_begins(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    checked = 0
    for token in range(0, made.aligned.size, 97):
        written = made.aligned.token_bytes[token]
        if not written or written in made.base.by_bytes:
            continue
        try:
            first = made.base.encode(written.decode())[0]
        except UnicodeDecodeError:
            continue
        if written.startswith(made.base.token_bytes[first] or b"\0"):
            assert made.table[token] == first
            checked += 1
    assert checked > 50


@every_pair
def test_every_token_that_writes_something_has_a_counterpart(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    lost = [
        token
        for token, (written, target) in enumerate(
            zip(made.aligned.token_bytes, made.table, strict=True)
        )
        if written and target == made.base.size
    ]
    assert lost == []


@every_pair
def test_carrying_agrees_with_a_plain_loop_and_keeps_all_mass_wherever_it_goes(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    pooled = made.aligned.pool_stop(random_distribution(made.aligned.size))
    carried = made.carry(pooled)
    rows = np.array(pooled, dtype=np.float64)
    expected = np.zeros((len(rows), made.base.size + 1))
    for row, probs in zip(expected, rows, strict=True):
        for target, prob in zip(made.table, probs, strict=True):
            row[target] += prob
    np.testing.assert_allclose(carried.probs, expected[:, :-1], rtol=1e-4, atol=1e-9)
    speaks = [
        token == made.aligned.stop or bool(written)
        for token, written in enumerate(made.aligned.token_bytes)
    ]
    mass = np.array(carried.probs, dtype=np.float64).sum(axis=-1)
    np.testing.assert_allclose(mass, rows[:, speaks].sum(axis=-1), atol=1e-6)
    np.testing.assert_allclose(carried.exact_mass + carried.prefix_mass, mass, atol=2e-6)


@every_pair
def test_exact_mass_is_the_mass_of_the_tokens_that_both_have(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    pooled = made.aligned.pool_stop(random_distribution(made.aligned.size, seed=1))
    common = [
        token == made.aligned.stop or written in made.base.by_bytes
        for token, written in enumerate(made.aligned.token_bytes)
    ]
    expected = np.array(pooled, dtype=np.float64)[:, common].sum(axis=-1)
    np.testing.assert_allclose(made.carry(pooled).exact_mass, expected, atol=2e-6)


@every_pair
def test_stop_goes_to_stop_and_control_tokens_carry_nothing(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    control = [t for t, written in enumerate(made.aligned.token_bytes) if not written]
    others = [token for token in control if token != made.aligned.stop]
    assert others
    probs = np.zeros((2, made.aligned.size), dtype=np.float32)
    probs[0, made.aligned.stop] = 1
    probs[1, others] = 1 / len(others)
    carried = made.carry(mx.array(probs))
    assert carried.probs[0, made.base.stop].item() == 1
    assert np.array(carried.probs).sum(axis=-1).tolist() == [1, 0]
    assert carried.exact_mass.tolist() == [1, 0]


@every_pair
def test_the_counterpart_of_a_token_is_its_place_in_the_table(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    tokens = np.arange(0, made.aligned.size, 331)
    assert made.counterpart(mx.array(tokens)).tolist() == [made.table[t] for t in tokens]


@pytest.mark.parametrize(("base", "aligned"), PAIRS[:2])
def test_shared_keeps_common_tokens_and_renormalises(
    projection: Projections, base: str, aligned: str
) -> None:
    made = projection(base, aligned)
    shared = Projection(made.base, made.aligned, "shared")
    pooled = made.aligned.pool_stop(random_distribution(made.aligned.size, seed=2))
    kept, exact = shared.carry(pooled), made.carry(pooled)
    probs = np.array(kept.probs, dtype=np.float64)
    np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(kept.exact_mass, exact.exact_mass)
    assert kept.prefix_mass.tolist() == [0, 0]
    ratio = np.array(exact.exact_mass)[:, None]
    assert (probs * ratio <= np.array(exact.probs) * (1 + 1e-4) + 1e-12).all()


@pytest.mark.parametrize(
    ("name", "more_base", "more_aligned"),
    [*((name, 0, 0) for name in PUBLISHED), ("qwen3", 64, 0), ("qwen3", 0, 128)],
)
def test_one_vocabulary_for_both_is_carried_bit_by_bit(
    vocabulary: Vocabularies, name: str, more_base: int, more_aligned: int
) -> None:
    """However many logits either model has beyond its tokens."""
    known = vocabulary(name)
    wide, narrow = (_again(known, more) for more in (more_base, more_aligned))
    made = Projection(wide, narrow)
    assert made.identity
    probs = narrow.pool_stop(random_distribution(narrow.size, rows=1))
    carried = np.array(made.carry(probs).probs)
    speaks = [bool(b) or t == narrow.stop for t, b in enumerate(narrow.token_bytes)]
    assert carried.shape[-1] == wide.size
    assert (carried[:, : narrow.size][:, speaks] == np.array(probs)[:, speaks]).all()
    assert (carried[:, : narrow.size][:, ~np.array(speaks)] == 0).all()


def _again(known: Vocabulary, padding: int) -> Vocabulary:
    """The same tokenizer under a model with so many more logits."""

    class Wrapped:
        backend_tokenizer = known._tokenizer

    return Vocabulary(Wrapped(), size=known.size + padding, stop_ids=known.stop_ids)


def test_fewer_logits_on_one_side_still_make_one_vocabulary() -> None:
    """A model whose output has no room for the last control tokens."""
    tokenizer = sentencepiece_tokenizer("prepend")
    full = Vocabulary(tokenizer, size=400, stop_ids=[2])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<one>", "<two>"]})
    wider = Vocabulary(tokenizer, size=400, stop_ids=[2])
    assert wider.size == full.size + 2
    for base, aligned in ((full, wider), (wider, full)):
        made = Projection(base, aligned)
        assert made.identity
        probs = random_distribution(aligned.size, rows=1)
        carried = made.carry(probs).probs
        assert carried.shape == (1, base.size)
        assert carried[0, 3 : full.size].tolist() == probs[0, 3 : full.size].tolist()


def test_different_stop_tokens_of_one_vocabulary_meet_by_role() -> None:
    base, aligned = small([1]), small([2])
    made = Projection(base, aligned)
    assert made.identity
    probs = random_distribution(aligned.size, rows=1)
    carried = made.carry(probs).probs
    assert carried[0, 1].item() == probs[0, 2].item()
    assert carried[0, 2].item() == 0
    assert carried[0, 3:].tolist() == probs[0, 3:].tolist()


def test_a_word_of_the_guide_that_ends_the_bases_answers_does_not_end_them() -> None:
    """Where an id is a stop token of one model only, its text goes where text goes."""
    ordinary = 270
    base, aligned = small([2, ordinary]), small([2])
    made = Projection(base, aligned)
    probs = np.zeros((1, aligned.size), dtype=np.float32)
    probs[0, ordinary] = 1
    carried = np.array(made.carry(mx.array(probs)).probs)
    assert carried[0, list(base.stop_ids)].tolist() == [0, 0]


def test_vocabularies_that_differ_in_one_token_are_not_the_same(vocabulary: Vocabularies) -> None:
    one = vocabulary("qwen3")
    other = _again(one, 0)
    assert same_vocabulary(one, other)
    swapped = list(other.token_bytes)
    swapped[500], swapped[501] = swapped[501], swapped[500]
    other.token_bytes = tuple(swapped)
    assert not same_vocabulary(one, other)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="projection must be prefix or shared, not 'exact'"):
        Projection(small([2]), small([2]), "exact")  # type: ignore[arg-type]
