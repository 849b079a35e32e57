"""Models that do as they are told: the real interface, with a script in place of weights.

A script says, for what was written since the prompt, how probable each next token is; so base and
guide can be given any behaviour. The network keeps the tokens that it read inside a real
``KVCache`` and looks nowhere else: a cache that was rewound wrongly gives a wrong answer.

    >>> base = scripted_model(writes("The", " sea", "."), "base")
    >>> guide = scripted_model(says({"The": {" sky": 0.9}}), "guide")
    >>> answer(Pair(base, guide)).text
    'The sea.'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
from mlx_lm.models.cache import KVCache

from blendin_mlx import Response, stream_generate
from blendin_mlx.answer_statistics import Statistics
from blendin_mlx.backend.mlx import mx
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompt_cache import PromptCache
from blendin_mlx.reading.context import Context
from blendin_mlx.step import Step

STOP: Final = "<|end|>"  # ends a turn
OTHER_STOP: Final = "<|eot|>"  # ends a text
CONTROL = (STOP, OTHER_STOP, "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# What precedes the answer in the guide's and in the base's prompt.
OPENINGS = (b"<|assistant|>\n", b"<|im_start|>assistant\n", b"# Answer:\n")

WORDS = (
    *("The", "Yes", " sea", " sky", " is", " blue", " wide", " deep", "."),
    *("\n\n", "# Query:", "END", " EN", "ways"),
)
OTHER_WORDS = ("Th", "e sea", " sky is", " blue", " wi", "\n\n", " EN", "es", " a")

Key = str | bytes
Row = Mapping[Any, float]  # from Key to probability
Script = Callable[[bytes], Row]


def as_bytes(text: Key) -> bytes:
    """Text as its bytes; bytes as they are."""
    return text.encode() if isinstance(text, str) else text


def says(table: Mapping[Any, Row], otherwise: Row | None = None) -> Script:
    """A row for each text written so far; ``otherwise`` (nearly flat unless given) elsewhere."""
    rows = {as_bytes(written): row for written, row in table.items()}
    return lambda written: rows.get(written, otherwise or {})


def writes(*tokens: Key, sure: float = 0.9, otherwise: Row | None = None) -> Script:
    """One answer, token by token, then STOP."""
    starts = [b"".join(map(as_bytes, tokens[:n])) for n in range(len(tokens) + 1)]
    follows = [*tokens, STOP]
    rows = {start: {token: sure} for start, token in zip(starts, follows, strict=True)}
    return says(rows, otherwise)


def always(row: Row) -> Script:
    """The same distribution everywhere."""
    return lambda written: row


def letters() -> dict[int, str]:
    """Which printable letter stands for which byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + n) for n, byte in enumerate(hidden)
    }


@cache
def scripted_tokenizer(
    words: tuple[str, ...] = WORDS, control: tuple[str, ...] = CONTROL, reverse: bool = False
) -> Any:
    """A byte-level BPE of all bytes and some words; ``reverse`` turns the order of its bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letter = letters()
    order = sorted(letter.values(), reverse=reverse)
    ids = {token: n for n, token in enumerate([*control, *order])}
    merges = []
    for word in words:
        spelled = "".join(letter[byte] for byte in word.encode())
        for n in range(1, len(spelled)):
            if spelled[: n + 1] not in ids:
                ids[spelled[: n + 1]] = len(ids)
                merges.append((spelled[:n], spelled[n]))
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in control])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=STOP, clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


class ScriptedNetwork:
    """``network(ids[R, n], cache=...)`` gives logits ``[R, n, V]``, as a network of mlx-lm does.

    What a script leaves over is spread over the tokens that write text, so that no STOP mass
    appears by itself; how, depends a little on every token since the beginning, so that a cache
    of another prefix shows. A probability of NaN or infinity becomes such a logit.
    """

    def __init__(self, script: Script, tokenizer: Any) -> None:
        self.script = script
        self.calls: list[int] = []  # tokens read by each pass
        byte_of = {letter: byte for byte, letter in letters().items()}
        control = set(tokenizer.all_special_tokens) | set(CONTROL)
        table = {token: text for text, token in tokenizer.get_vocab().items()}
        self._written = [
            text.encode()
            if text in control or not set(text) <= set(byte_of)
            else bytes(byte_of[char] for char in text)
            for text in map(table.__getitem__, range(len(table)))
        ]
        self._ids = {written: token for token, written in enumerate(self._written)}
        self._is_text = np.array([table[token] not in control for token in range(len(table))])
        self._crc = np.array([crc32(written) for written in self._written])

    def make_cache(self) -> list[KVCache]:
        """An empty cache; keys and values will be the tokens themselves."""
        return [KVCache()]

    def __call__(self, ids: mx.array, cache: Sequence[Any] | None = None) -> mx.array:
        rows: Any = ids.tolist()
        kept: Any = rows
        starts: Any = [0] * len(rows)
        if cache is not None:
            self.calls.append(ids.size)
            starts = mx.broadcast_to(mx.array(cache[0].offset), (len(rows),)).tolist()
            fresh = ids.astype(mx.float32)[:, None, :, None]
            keys, _ = cache[0].update_and_fetch(fresh, fresh)
            kept = keys.squeeze((1, 3)).astype(mx.int32).tolist()
        ends = [range(start + 1, start + 1 + ids.shape[1]) for start in starts]
        return mx.array(
            np.stack(
                [
                    np.stack([self._logits(row[:end]) for end in own])
                    for row, own in zip(kept, ends, strict=True)
                ]
            )
        )

    def _logits(self, read: Sequence[int]) -> npt.NDArray[np.float32]:
        text = b"".join(self._written[token] for token in read)
        starts = [text.rfind(mark) + len(mark) for mark in OPENINGS if mark in text]
        row = self.script(text[max(starts) :]) if starts else {}
        probs = np.zeros(len(self._written), dtype=np.float32)
        for key, prob in row.items():
            probs[self._ids[as_bytes(key)]] = prob
        rest = self._is_text & (probs == 0)
        left = 1 - sum(row.values())
        if math.isfinite(left) and left > 0:
            weights = 1 + (self._crc[rest] ^ crc32(text)) % 5
            probs[rest] = left * weights / weights.sum()
        logits: npt.NDArray[np.float32] = np.log(np.maximum(probs, np.float32(1e-30)))
        return logits


def scripted_model(
    script: Script,
    name: str,
    *,
    tokenizer: Any = None,
    stops: Sequence[str] = (STOP, OTHER_STOP),
    limit: int | None = None,
) -> LanguageModel:
    """A model that follows ``script``, with a STOP class and a context limit."""
    tokenizer = tokenizer or scripted_tokenizer()
    config: dict[str, Any] = {"eos_token_id": tokenizer.convert_tokens_to_ids(list(stops))}
    if limit is not None:
        config["max_position_embeddings"] = limit
    return LanguageModel(ScriptedNetwork(script, tokenizer), tokenizer, config, name)


def scripted_pair(
    base: Script,
    guide: Script,
    *,
    reference: Script | None = None,
    tokenizers: int = 1,
    **options: Any,
) -> Pair:
    """A pair with one tokenizer for both or with two; options are those of the guide.

    A reference model, if there is one, has the guide's tokenizer.
    """
    other = scripted_tokenizer(OTHER_WORDS, CONTROL[::-1], reverse=True)
    options["tokenizer"] = other if tokenizers == 2 else None
    return Pair(
        scripted_model(base, "scripted base"),
        scripted_model(guide, "scripted guide", **options),
        reference and scripted_model(reference, "scripted reference", **options),
    )


@dataclass(frozen=True)
class Answer:
    """All that came out of one call."""

    responses: list[Response]

    @property
    def text(self) -> str:
        return "".join(response.text for response in self.responses)

    @property
    def pieces_text(self) -> str:
        return "".join(piece.text for response in self.responses for piece in response.pieces)

    @property
    def steps(self) -> list[Step]:
        return [piece.step for response in self.responses for piece in response.pieces]

    @property
    def statistics(self) -> Statistics:
        return self.responses[-1].statistics

    @property
    def finish_reason(self) -> str | None:
        return self.responses[-1].finish_reason


def answer(pair: Pair, prompt: Any = "Hi", **options: Any) -> Answer:
    """One whole call of ``stream_generate``; at most 64 tokens unless told otherwise."""
    return Answer(list(stream_generate(pair, prompt, **{"max_tokens": 64, **options})))


def assert_holds(context: Context, tokens: Sequence[int]) -> None:
    """The context holds exactly these tokens, and its cache says the same as a fresh one's."""
    assert context.tokens == list(tokens)
    fresh = Context(context.model)
    assert mx.array_equal(context.read([]), fresh.read(tokens))


def assert_in_step(cache: PromptCache, prompt: Any, tokens: Sequence[int]) -> None:
    """Both contexts hold their prompt and this answer; one tokenizer for both."""
    assert_holds(cache.base, [*prompt.base.ids, *tokens])
    assert_holds(cache.aligned, [*prompt.aligned.ids, *tokens])
