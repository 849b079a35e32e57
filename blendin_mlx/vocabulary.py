"""A tokenizer seen as bytes: what each token writes, which tokens end an answer.

Tokens are compared by their bytes, never by printed form (two tokens may print alike). Two
families of tokenizers are known: byte-level BPE (GPT-2, Llama 3, Qwen, also those converted from
tiktoken), where each character of a token stands for one byte, and SentencePiece with byte
fallback (Llama 2, Gemma, Mistral), where ``▁`` stands for a space and ``<0x0A>`` for one byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from .backend import mx
from .blending import probabilities
from .errors import PairError

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
# Texts that are put first to keep a tokenizer's dummy space away from what follows.
LEADS = ("\n", "\x01", "\ufdd0")


class Vocabulary:
    """One tokenizer as the blend needs it.

    Args:
        tokenizer: a fast Hugging Face tokenizer, or mlx-lm's wrapper around one.
        size: how many logits the model has; ids beyond it cannot be produced and are cut.
        stop_ids: ids that end an answer (the model's STOP class), at least one.
        name: the model's name, for messages.
        turn_ids: added tokens that are control tokens by use; from now on they are marked special.

    Raises:
        PairError: the tokenizer is of a family whose bytes cannot be known.

    Example:
        >>> vocabulary.bytes_of(vocabulary.encode("naïve ☃"))
        b'na\\xc3\\xafve \\xe2\\x98\\x83'
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        size: int,
        stop_ids: Iterable[int],
        name: str = "model",
        turn_ids: Iterable[int] = (),
    ) -> None:
        self.name = name
        self._tokenizer = _fast_tokenizer(tokenizer, name)
        self._tokenizer.no_truncation()  # some tokenizer.json cut or fill what they are given
        self._tokenizer.no_padding()
        self._mark_special(turn_ids)
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self.size: int = min(size, max(ids.values()) + 1)
        self.stop_ids = tuple(sorted(i for i in set(stop_ids) if i < self.size))
        if not self.stop_ids:
            raise PairError(f"{name}: no stop token is known; its config needs an eos_token_id")
        self.stop = self.stop_ids[0]
        self.token_bytes = self._read_bytes(ids)

    def _mark_special(self, tokens: Iterable[int]) -> None:
        added = self._tokenizer.get_added_tokens_decoder()
        for entry in (added[token] for token in tokens):
            entry.special = True
            self._tokenizer.add_special_tokens([entry])

    def _read_bytes(self, ids: dict[str, int]) -> tuple[bytes | None, ...]:
        """Bytes of every id; None for control tokens, stop tokens and holes."""
        spell = _speller(self._tokenizer, self.name)
        added = self._tokenizer.get_added_tokens_decoder()
        table: list[bytes | None] = [None] * self.size
        for text, token in ids.items():
            if token < self.size and token not in added:
                table[token] = spell(text)
        for token, entry in added.items():
            if token < self.size and not entry.special:
                # Gemma lists its runs of spaces here, written ▁▁▁ as in its vocabulary.
                raw = spell is _byte_level_bytes
                table[token] = entry.content.encode() if raw else spell(entry.content)
        for token in self.stop_ids:
            table[token] = None
        return tuple(table)

    @cached_property
    def by_bytes(self) -> dict[bytes, int]:
        """The id of each byte string; the lowest where several tokens write the same."""
        known: dict[bytes, int] = {}
        for token, written in enumerate(self.token_bytes):
            if written:
                known.setdefault(written, token)
        return known

    @cached_property
    def special_spellings(self) -> tuple[str, ...]:
        """How the control tokens are spelled, longest first."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        spelled = {entry.content for entry in added if entry.special}
        return tuple(sorted(spelled, key=lambda text: (-len(text), text)))

    @property
    def is_bpe(self) -> bool:
        """Whether tokens come from merging pairs (and not from the likeliest split, say)."""
        return type(self._tokenizer.model).__name__ == "BPE"

    @cached_property
    def _lead(self) -> str:
        """What to put first, where the tokenizer puts a space of its own before a text.

        It must be something that no token joins with what follows.
        """
        if self.bytes_of(self._plain("a")) != b" a":
            return ""
        return next(
            lead
            for lead in LEADS
            if not any(lead.encode() in written[:-1] for written in self.by_bytes)
        )

    def _plain(self, text: str) -> list[int]:
        # Control tokens spelled in a text stay text: a user cannot forge a turn.
        self._tokenizer.encode_special_tokens = True
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        finally:
            self._tokenizer.encode_special_tokens = False
        return ids

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text, without any special token and without a leading space of its own.

        They write the text as the tokenizer's normaliser leaves it (Qwen composes it to NFC,
        Gemma takes ``▁`` for a space). A byte for which a vocabulary has no token is lost, with
        no word from the tokenizer: SmolLM2's lacks 04 06 13 14 16 1D F1 F2, which are in control
        characters and in planes without characters.
        """
        if not self._lead:
            return self._plain(text)
        return self._plain(self._lead + text)[len(self._plain(self._lead)) :]

    def encode_marked(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of a rendered chat template, its control tokens recognised. Adds none.

        Where the text continues another, the tokenizer puts no space of its own before it.
        """
        lead = self._lead if continues else ""
        ids: list[int] = self._tokenizer.encode(lead + text, add_special_tokens=False).ids
        return ids[len(self._plain(lead)) :]

    def bytes_of(self, ids: Sequence[int]) -> bytes:
        """What these tokens write, one after the other. Control and stop tokens write nothing."""
        return b"".join(self.token_bytes[token] or b"" for token in ids)

    def breaks_line(self, token: int) -> bool:
        """Whether a token writes a line break."""
        return b"\n" in (self.token_bytes[token] or b"")

    def distribution(self, logits: mx.array) -> mx.array:
        """Logits ``[..., V']`` → probabilities ``[..., size]``, the STOP class pooled."""
        return self.pool_stop(probabilities(logits, self.size))

    def pool_stop(self, probs: mx.array) -> mx.array:
        """``[..., size]`` with all the STOP class's mass on its first id, 0 on the others."""
        if len(self.stop_ids) == 1:
            return probs
        members = probs[..., mx.array(self.stop_ids)]
        total = members.sum(axis=-1, keepdims=True)
        pooled = mx.concatenate([total, mx.zeros_like(members[..., 1:])], axis=-1)
        places = mx.broadcast_to(mx.array(self.stop_ids), members.shape)
        return mx.put_along_axis(probs, places, pooled, axis=-1)


def _fast_tokenizer(tokenizer: Any, name: str) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise PairError(
            f"{name}: its tokenizer has no tokenizer.json, so the bytes of its tokens "
            "cannot be known; use a model that ships one"
        )
    return backend


def _speller(tokenizer: Any, name: str) -> Any:
    """The function from a token's printed form to its bytes, by the tokenizer's own decoder."""
    decoder = tokenizer.decoder
    described = json.loads(decoder.__getstate__()) if decoder is not None else {}
    steps = described.get("decoders", [described])
    kinds = {step.get("type") for step in steps}
    if kinds == {"ByteLevel"}:
        return _byte_level_bytes
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return _sentencepiece_bytes
    raise PairError(
        f"{name}: tokens decoded by {', '.join(sorted(map(str, kinds)))} have no bytes that can "
        "be known; byte-level BPE and SentencePiece with byte fallback can be blended"
    )


def _byte_level_table() -> dict[str, int]:
    """GPT-2's reversible map: printable bytes stand for themselves, others for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + n): byte for n, byte in enumerate(hidden)})
    return table


_BYTE_OF = _byte_level_table()


def _byte_level_bytes(text: str) -> bytes:
    try:
        return bytes([_BYTE_OF[char] for char in text])
    except KeyError:  # an added token, written as it is
        return text.encode()


def _sentencepiece_bytes(text: str) -> bytes:
    if match := BYTE_TOKEN.match(text):
        return bytes([int(match[1], 16)])
    return text.replace("▁", " ").encode()
