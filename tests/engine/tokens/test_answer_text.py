"""The answer as text, and another tokenizer's tokens of a text that grows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blendin_mlx.tokens.answer_text import AnswerText, common_prefix, decode_complete
from blendin_mlx.tokens.growing_tokens import GrowingTokens
from blendin_mlx.tokens.vocabulary import Vocabulary
from texts import ALL_TOKENIZERS, PIECES, TEXTS
from tiny import sentencepiece_tokenizer

Vocabularies = Callable[[str], Vocabulary]
every_tokenizer = pytest.mark.parametrize("name", ALL_TOKENIZERS)
BYTES = Vocabulary(sentencepiece_tokenizer("prepend"), size=400, stop_ids=[2])
WORDS = ("The", " sea", " was", " calm,", "ing", "s", ".", ".\n", " 12", "7")
UNSPACED = "漢字日本語の文章です一二三四五中国人民的是不了在有カタカナกขคงจฉไว้วัน"
# Bytes that are text, nearly text, and no text.
DATA = st.lists(
    st.one_of(
        TEXTS.map(lambda text: text.encode()),
        st.binary(max_size=4),
        st.sampled_from([b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x91", b"\xf4\x90", b"\xc3("]),
    ),
    max_size=5,
).map(b"".join)


def tokens_of_bytes(data: bytes) -> list[int]:
    """One token per byte."""
    return [BYTES.by_bytes[bytes([byte])] for byte in data]


def read(answer: AnswerText, data: bytes) -> str:
    return "".join(answer.append(token) for token in tokens_of_bytes(data))


class Pieces:
    """A vocabulary of given pieces of bytes, as AnswerText sees one."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        self.token_bytes = [data[a:b] for a, b in pairwise(places)]


@given(DATA, st.lists(st.integers(0, 200), max_size=8), st.lists(st.integers(0, 200), max_size=8))
def test_any_split_of_bytes_into_tokens_gives_the_same_text(
    data: bytes, cuts: list[int], others: list[int]
) -> None:
    texts = []
    for pieces in (Pieces(data, cuts), Pieces(data, others)):
        answer = AnswerText(pieces)  # type: ignore[arg-type]
        shown = "".join(answer.append(n) for n in range(len(pieces.token_bytes)))
        assert shown == answer.text
        shown += answer.finish()
        assert shown == answer.text
        texts.append(shown)
    assert texts[0] == texts[1] == data.decode(errors="replace")


@given(DATA, st.lists(st.integers(0, 60), max_size=4), st.binary(max_size=6))
def test_rewinding_restores_what_was_before(data: bytes, lengths: list[int], more: bytes) -> None:
    answer = AnswerText(BYTES)
    read(answer, data)
    for wanted in lengths:
        length = wanted % (len(data) + 1)
        answer.rewind(length)
        data = data[:length]
        fresh = AnswerText(BYTES)
        read(fresh, data)
        assert (answer.ids, answer.text, answer.pending) == (fresh.ids, fresh.text, fresh.pending)
        assert read(answer, more) == read(fresh, more)
        data += more


@pytest.mark.parametrize(
    ("data", "text", "pending"),
    [
        (b"\xe2\x98\x83", "☃", b""),
        (b"\xe2\x98", "", b"\xe2\x98"),
        (b"\xe2(", "\ufffd(", b""),
        (b"\x80", "\ufffd", b""),
        (b"\xff", "\ufffd", b""),
        (b"\xf0\x80", "\ufffd\ufffd", b""),
        (b"\xed\xa0", "\ufffd\ufffd", b""),  # half of a surrogate: no character begins so
        (b"\xed\x9f", "", b"\xed\x9f"),
        (b"ok\xf0\x9f\x91", "ok", b"\xf0\x9f\x91"),
    ],
)
def test_bytes_that_can_never_be_text_are_replaced_as_soon_as_that_is_certain(
    data: bytes, text: str, pending: bytes
) -> None:
    assert decode_complete(data) == (text, pending)


@given(st.binary(max_size=8))
def test_what_is_withheld_can_still_become_a_character(data: bytes) -> None:
    _, pending = decode_complete(data)
    ends = (b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xbf\xbf", b"\xbf\xbf\xbf", b"\xbf")
    assert pending == b"" or any(_is_text(pending + end) for end in ends)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(DATA)
def test_each_character_is_traced_to_the_token_that_completed_it(data: bytes) -> None:
    answer = AnswerText(BYTES)
    completed = [n for n, token in enumerate(tokens_of_bytes(data)) for _ in answer.append(token)]
    assert [answer.token_at(n) for n in range(len(answer.text))] == completed


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_common_prefix_is_the_longest(one: list[int], other: list[int]) -> None:
    shared = common_prefix(one, other)
    assert one[:shared] == other[:shared]
    assert shared == min(len(one), len(other)) or one[shared] != other[shared]
    assert common_prefix(tuple(one), other) == shared
    assert common_prefix(one, one) == common_prefix(one, tuple(one)) == len(one)


def growths(rng: random.Random, steps: int) -> Iterator[str]:
    """A text in random increments, sometimes cut back, in one of several manners of writing."""
    manner = rng.choice(["mixed", "unspaced", "words", "one piece"])
    only = rng.choice(PIECES)
    text = ""
    for _ in range(steps):
        if rng.random() < 0.15:
            back = rng.choice([1, 2, 5, 20, len(text)])
            text = text[: max(0, len(text) - rng.randrange(back + 1))]
        elif manner == "unspaced" and rng.random() < 0.95:
            text += "".join(rng.choice(UNSPACED) for _ in range(rng.randrange(1, 8)))
        elif manner == "words" and rng.random() < 0.8:
            text += rng.choice(WORDS)
        elif manner == "one piece" and rng.random() < 0.9:
            text += only
        else:
            piece = rng.choice(PIECES)
            text += piece[: rng.randrange(1, len(piece) + 1)]
        yield text


@every_tokenizer
def test_growing_tokens_are_at_every_step_those_of_the_whole_text(
    vocabulary: Vocabularies, name: str
) -> None:
    rng = random.Random(name)
    chosen = vocabulary(name)
    for _ in range(60):
        growing = GrowingTokens(chosen)
        for text in growths(rng, 50):
            assert growing.update(text) == chosen.encode(text), text[-80:]


@every_tokenizer
@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.tuples(st.integers(0, 30), TEXTS), max_size=8))
@example(steps=[(0, "hello world"), (6, "s and more")])  # a boundary that is none any more
@example(steps=[(0, "hello world"), (6, ""), (0, "s")])
def test_growing_tokens_survive_cuts_and_additions(
    vocabulary: Vocabularies, name: str, steps: list[tuple[int, str]]
) -> None:
    chosen = vocabulary(name)
    growing, text = GrowingTokens(chosen), ""
    for back, more in steps:
        text = text[: max(0, len(text) - back)] + more
        assert growing.update(text) == chosen.encode(text)


def chained_vocabulary(length: int) -> Vocabulary:
    """A BPE whose last letter decides how all before it are paired: the later pairs go first."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    letters = [chr(0x4E00 + n) for n in range(length)]
    merges = list(pairwise(letters))[::-1]
    tokens = ["</s>", *letters, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, merges))
    tokenizer.decoder = decoders.Metaspace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    return Vocabulary(wrapped, size=len(tokens), stop_ids=[0])


def test_tokens_that_change_far_back_are_noticed_at_the_joint() -> None:
    chosen = chained_vocabulary(200)
    text = "".join(chr(0x4E00 + n) for n in range(200))
    before, after = chosen.encode(text[:150]), chosen.encode(text[:151])
    assert before[0] != after[0]  # one letter more, and the very first token is another
    growing = GrowingTokens(chosen)
    for end in [*range(200), 180, 90, 91, 200]:
        assert growing.update(text[:end]) == chosen.encode(text[:end])


ENGLISH = "The tide comes in twice a day, and with it (as a rule) the boats. Who knows why? "
CHINESE = "潮水每天来两次，船也跟着来。没有人知道为什么！「也许是月亮的缘故」，老人说。"
JAPANESE = "潮は一日に二度満ちる。船もそれとともに帰ってくる、と老人は言った。"
NO_PUNCTUATION = "潮水每天来两次船也跟着来没有人知道为什么也许是月亮的缘故老人说"
CODE = "def tide(hour: int) -> float:\n    return 2.0 * sin(hour / 12.4)  # metres\n\n\n"


@every_tokenizer
@pytest.mark.parametrize("sample", [ENGLISH, CHINESE, JAPANESE, NO_PUNCTUATION, CODE])
def test_the_work_of_an_update_does_not_grow_with_the_text(
    vocabulary: Vocabularies, name: str, sample: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = vocabulary(name)
    counts: list[int] = []
    encode = chosen.encode

    def spy(text: str) -> list[int]:
        counts.append(len(text))
        return encode(text)

    monkeypatch.setattr(chosen, "encode", spy)
    growing = GrowingTokens(chosen)
    text = (sample * 100)[:2500]
    most = 0
    for end in range(0, len(text), 3):
        counts.clear()
        growing.update(text[:end])
        most = max(most, sum(counts))
    assert growing.ids == encode(text[:end])
    assert most <= 200


@every_tokenizer
def test_an_update_with_the_same_text_changes_nothing(vocabulary: Vocabularies, name: str) -> None:
    growing: Any = GrowingTokens(vocabulary(name))
    first = list(growing.update(CHINESE * 5))
    assert growing.update(CHINESE * 5) == first
    assert growing.update("") == []
