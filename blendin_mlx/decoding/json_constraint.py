"""Answers that satisfy a JSON schema: the tokens that may come next, computed by llguidance.

The mask applies to the distribution that decides, the base's or the blend's; the gate never sees
it. It depends on the answer's tokens alone, so drafts and rewinds change nothing. Where the schema
leaves no choice, the tokens are those of the base's own tokenizer. llguidance is an extra.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..backend.mlx import mx
from ..errors import SchemaError
from ..tokens.answer_text import common_prefix
from ..tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLTokenizer

MISSING = 'holding answers to a JSON schema needs llguidance: pip install "blendin-mlx[json]"'
# On one line: a model that may write white space between any two tokens may never stop doing so.
_LAYOUT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def check_schema(schema: Any) -> str:
    """Return the grammar of a JSON schema in llguidance's form.

    Raises:
        SchemaError: it is not a schema, nothing satisfies it, it uses an unsupported feature, or
            llguidance is not installed.
    """
    if importlib.util.find_spec("llguidance") is None:
        raise SchemaError(MISSING)
    from llguidance import LLMatcher

    if not isinstance(schema, dict | bool):
        raise SchemaError("not a JSON schema: a schema is an object")
    try:
        written = json.dumps({} if schema is True else schema, allow_nan=False)
        grammar = LLMatcher.grammar_from_json_schema(written, defaults=_LAYOUT)
    except (ValueError, TypeError, RecursionError) as error:
        raise SchemaError(f"not a JSON schema: {error}") from None
    wrong, reasons = LLMatcher.validate_grammar_with_warnings(grammar)
    if wrong:
        raise SchemaError(f"not a usable JSON schema: {reasons[0]}")
    return grammar


class JsonConstraint:
    """The tokens that may come next in an answer that must satisfy a JSON schema.

    STOP may come where the JSON is complete, and only there. One object serves any number of
    answers, one at a time.

    Args:
        vocabulary: the base's.
        schema: a JSON schema as ``json.loads`` gives it.
        begun: tokens of the answer that precede those passed to :meth:`allowed`.

    Raises:
        SchemaError: see :func:`check_schema`; or no valid answer begins with ``begun``.

    Example:
        >>> held = JsonConstraint(pair.base.vocabulary, {"enum": ["yes", "no"]})
        >>> generate(pair, "Is the sky blue?", constraint=held)
        '"yes"'
    """

    def __init__(self, vocabulary: Vocabulary, schema: Any, begun: Sequence[int] = ()) -> None:
        grammar = check_schema(schema)
        from llguidance import LLMatcher

        self._vocabulary = vocabulary
        self._matcher = LLMatcher(_tokenizer(vocabulary), grammar, log_level=0)
        self._begun = list(begun)
        self._read: list[int] = []
        self._allowed: mx.array | None = None
        self.allowed([])

    def allowed(self, ids: Sequence[int]) -> mx.array:
        """Return ``[V]`` booleans, true for each token that may follow the answer ``ids``.

        Raises:
            SchemaError: no token may, or this answer already violates the schema.
        """
        tokens = [*self._begun, *ids]
        if self._allowed is None or tokens != self._read:
            self._allowed = self._after(tokens)
        return self._allowed

    def is_complete(self, ids: Sequence[int]) -> bool:
        """Return whether the answer may end here."""
        return bool(self.allowed(ids)[self._vocabulary.stop].item())

    def _after(self, tokens: list[int]) -> mx.array:
        if common_prefix(self._read, tokens) < len(self._read):  # another answer, or a rewind
            self._matcher.reset()
            self._read = []
        fresh = tokens[len(self._read) :]
        fits = self._matcher.try_consume_tokens(fresh) == len(fresh)
        bias = np.frombuffer(self._matcher.compute_logit_bias(), dtype=np.uint8)
        if not fits or self._matcher.is_error():
            written = self._vocabulary.bytes_of(tokens).decode(errors="replace")
            raise SchemaError(
                f"the tokens of {self._vocabulary.name} cannot go on from {written[-40:]!r} "
                "as the JSON schema says"
            )
        self._read = tokens
        return mx.array(bias[: self._vocabulary.size] > 0)


_TOKENIZERS: WeakKeyDictionary[Vocabulary, LLTokenizer] = WeakKeyDictionary()


def _tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    """Return the vocabulary in llguidance's form; made once."""
    from llguidance import LLTokenizer, TokenizerWrapper

    if vocabulary not in _TOKENIZERS:
        wrapped = TokenizerWrapper(_Spelled(vocabulary))
        _TOKENIZERS[vocabulary] = LLTokenizer(wrapped, n_vocab=vocabulary.size)
    return _TOKENIZERS[vocabulary]


class _Spelled:
    """A tokenizer as llguidance needs it; tokens without bytes occur in no text."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = vocabulary.stop
        self.tokens = [written or b"" for written in vocabulary.token_bytes]
        self.special_token_ids = [n for n, written in enumerate(self.tokens) if not written]
        self._encode, self._bytes_of = vocabulary.encode, vocabulary.bytes_of
        self._by_bytes = vocabulary.by_bytes
        self._longest = max(map(len, self.tokens))

    def __call__(self, text: str) -> list[int]:
        """Return tokens that write exactly this text: the tokenizer's own unless it alters it."""
        ids = self._encode(text)
        data = text.encode()
        return ids if self._bytes_of(ids) == data else self._longest_first(data)

    def _longest_first(self, data: bytes) -> list[int]:
        ids: list[int] = []
        while data:
            sizes = range(min(self._longest, len(data)), 0, -1)
            size = next((n for n in sizes if data[:n] in self._by_bytes), 1)
            ids.append(self._by_bytes[data[:size]])  # KeyError: no token has this byte
            data = data[size:]
        return ids
