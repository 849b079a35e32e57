"""A tokenizer in bytes: what each token writes, and which tokens end an answer.

Tokens are compared by their bytes, never by printed form (which two tokens may share). Two
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

from ..backend.mlx import mx
from ..blend.formulas import probabilities
from ..errors import PairError
from .encoder import Encoder, Reading, TokenizingError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
# Texts to put first, so that a tokenizer's dummy space does not touch what follows.
_LEADS = ("\n", "\x01", "\ufdd0")


class Vocabulary:
    """A tokenizer as the blend needs it.

    Args:
        tokenizer: a fast Hugging Face tokenizer, or mlx-lm's wrapper around one.
        size: how many ids the model can read and produce; ids beyond it are cut, and the spellings
            of added tokens beyond it are text.
        stop_ids: ids that end an answer (the model's STOP class), at least one.
        name: the model's name, for messages.
        turn_ids: added tokens that the chat template uses as control tokens; they become special.

    Raises:
        PairError: the bytes of its tokens cannot be known, or it does not fit the model.

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
        self._tokenizer.no_truncation()  # some tokenizer.json truncate or pad their input
        self._tokenizer.no_padding()
        self._mark_special(turn_ids)
        self._encoder = Encoder(self._tokenizer, name)
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self.size: int = min(size, max(ids.values()) + 1)
        self.stop_ids = tuple(sorted(i for i in set(stop_ids) if i < self.size))
        if not self.stop_ids:
            raise PairError(f"{name}: no stop token is known; its config needs an eos_token_id")
        self.stop = self.stop_ids[0]
        self._beyond = self._spelled_beyond(ids)
        self.token_bytes = self._read_bytes(ids)

    def _mark_special(self, tokens: Iterable[int]) -> None:
        added = self._tokenizer.get_added_tokens_decoder()
        for entry in (added[token] for token in tokens):
            entry.special = True
            self._tokenizer.add_special_tokens([entry])

    def _spelled_beyond(self, ids: dict[str, int]) -> re.Pattern[str] | None:
        """Return a pattern for the spellings of added tokens that the model has no row for."""
        added = self._tokenizer.get_added_tokens_decoder()
        beyond = {text: token for text, token in ids.items() if token >= self.size}
        if foreign := [token for token in beyond.values() if token not in added]:
            raise PairError(
                f"{self.name}: its tokenizer has tokens up to {max(foreign)}, its weights have "
                f"{self.size} rows; they do not belong together"
            )
        spelled = sorted(beyond, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, spelled))) if spelled else None

    def _read_bytes(self, ids: dict[str, int]) -> tuple[bytes | None, ...]:
        """Return the bytes of every id; None for control tokens, stop tokens and unused ids."""
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
        """The id of the token that writes each byte string.

        If several tokens write the same bytes, as ``.`` and ``<0x2E>`` do, it is the one that the
        tokenizer itself gives for them; a byte-fallback token only if no other writes them.
        """
        found: dict[bytes, int] = {}
        alike: dict[bytes, list[int]] = {}
        for token, written in enumerate(self.token_bytes):
            if written and found.setdefault(written, token) != token:
                alike.setdefault(written, [found[written]]).append(token)
        return found | {written: self._written_as(written, alike[written]) for written in alike}

    def _written_as(self, written: bytes, alike: list[int]) -> int:
        """Return which of several tokens with the same bytes the tokenizer gives."""
        text = written.decode(errors="replace")
        own = self.encode(text)
        if len(own) == 1 and own[0] in alike:
            return own[0]
        spelled = (token for token in alike if not _BYTE_TOKEN.match(self._spelling(token)))
        return next(spelled, alike[0])

    def _spelling(self, token: int) -> str:
        """Return a token's printed form."""
        return self._tokenizer.id_to_token(token) or ""

    @cached_property
    def special_spellings(self) -> tuple[str, ...]:
        """The spellings of the control tokens, longest first."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        spelled = {entry.content for entry in added if entry.special}
        return tuple(sorted(spelled, key=lambda text: (-len(text), text)))

    @property
    def is_bpe(self) -> bool:
        """True if the tokenizer merges pairs (byte-pair encoding)."""
        return type(self._tokenizer.model).__name__ == "BPE"

    @cached_property
    def _lead(self) -> str:
        """A text to put first if the tokenizer adds a space before a text; else empty.

        No token joins it with what follows.
        """
        if self.bytes_of(self._plain("a")) != b" a":
            return ""
        return next(
            lead
            for lead in _LEADS
            if not any(lead.encode() in (written or b"")[:-1] for written in self.token_bytes)
        )

    def _plain(self, text: str) -> list[int]:
        # Control tokens spelled in a text stay text: a user cannot forge a turn.
        return self._readable(text, "plain")

    def _readable(self, text: str, reading: Reading) -> list[int]:
        """Return ids that the model has rows for; spellings of other tokens are split."""
        ids = self._encoder.encode(text, reading)
        if self._beyond is None or max(ids, default=0) < self.size:
            return ids
        cuts = [found.start() + 1 for found in self._beyond.finditer(text)]
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        ids = self._encoder.encode(parts[0], reading)
        for part in parts[1:]:
            lead = self._encoder.encode(self._lead)
            ids += self._encoder.encode(self._lead + part, reading)[len(lead) :]
        if max(ids, default=0) >= self.size:
            raise TokenizingError(f"{self.name}: it has no row for a token of this text")
        return ids

    def encode(self, text: str) -> list[int]:
        """Return the ids of a plain text, without special tokens or an added leading space.

        They write the text as the tokenizer's normaliser leaves it (Qwen composes it to NFC,
        Gemma takes ``▁`` for a space). A tokenizer silently drops a byte for which it has no token:
        SmolLM2's lacks 04 06 13 14 16 1D F1 F2, which occur in control characters and in planes
        without characters.
        """
        if not self._lead:
            return self._plain(text)
        return self._plain(self._lead + text)[len(self._plain(self._lead)) :]

    def encode_each(self, texts: Sequence[str]) -> list[list[int]]:
        """Return :meth:`encode` of many texts, in a fraction of the time."""
        lead = len(self._plain(self._lead)) if self._lead else 0
        found = [ids[lead:] for ids in self._encoder.encode_each([self._lead + t for t in texts])]
        if self._beyond is None:
            return found
        return [
            ids if max(ids, default=0) < self.size else self.encode(text)
            for ids, text in zip(found, texts, strict=True)
        ]

    def encode_marked(self, text: str, *, continues: bool = False) -> list[int]:
        """Return the ids of a rendered chat template, with its control tokens recognised.

        Args:
            text: the rendered template; nothing is added around it.
            continues: true if the text follows another; then no leading space is added.
        """
        lead = self._lead if continues else ""
        ids = self._readable(lead + text, "marked")
        return ids[len(self._plain(lead)) :]

    def surrounding(self) -> list[int]:
        """Return the ids that the tokenizer adds around a text by default."""
        return [token for token in self._encoder.encode("", "whole") if token < self.size]

    def bytes_of(self, ids: Sequence[int]) -> bytes:
        """Return the bytes that a sequence of tokens writes.

        Control and stop tokens write nothing, nor do ids beyond the model's output.
        """
        return b"".join(self.token_bytes[token] or b"" for token in ids if token < self.size)

    def breaks_line(self, token: int) -> bool:
        """Return whether a token writes a line break."""
        return b"\n" in (self.token_bytes[token] or b"")

    def distribution(self, logits: mx.array) -> mx.array:
        """Return probabilities ``[..., size]`` of logits ``[..., V']``, the STOP class pooled."""
        return self.pool_stop(probabilities(logits, self.size))

    def pool_stop(self, probs: mx.array) -> mx.array:
        """Return ``[..., size]`` with the STOP class's mass on its first id, 0 on its others."""
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
    """Return the function from a token's printed form to its bytes, for the tokenizer's decoder."""
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
    """Return GPT-2's map from characters to bytes: U+0100 and up stand for unprintable bytes."""
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
    if text.startswith("<0x") and (match := _BYTE_TOKEN.match(text)):
        return bytes([int(match[1], 16)])
    return text.replace("▁", " ").encode()
