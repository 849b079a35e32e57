"""Encoding with an untrusted tokenizer: a panic or an endless loop fails one text only.

The rules in ``tokenizer.json`` hold regular expressions. While the library runs one, Ctrl-C does
not reach the process, and a panic is not even an ``Exception``. Tokenizers made of rules that are
known to be harmless, as nearly all are, run in this process. Others run in a child process, which
is killed when a text takes too much time or memory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from ..errors import PromptError
from ..limited_process import LimitedProcess, ProcessDiedError, ProcessLimitError

# plain   control tokens spelled in the text stay text
# marked  they are recognised
# whole   as marked, and with the tokens that the tokenizer adds around a text
Reading = Literal["plain", "marked", "whole"]

_ONE_AT_A_TIME = RLock()  # two threads would restore each other's copy of stderr
CHILD = Path(__file__).with_name("encoder_child.py")
# Limits of the child for one text. Processor time does not depend on what else runs; the clock is
# the last resort.
_LONGEST_CPU_S = 2
_WALL_S = 120.0
_MEMORY = 4 << 30  # bytes

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
_SPACES = r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_HARMLESS_EXPRESSIONS = frozenset(
    (
        *(rf"{_CONTRACTIONS}\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+{_SPACES}"
          for digits in (r"\p{N}", r"\p{N}{1,3}")),
        rf"{_CONTRACTIONS}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+{_SPACES}",
        rf"{_CASED[0]}{_ENDINGS}|{_CASED[1]}{_ENDINGS}|\p{{N}}{{1,3}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        *(r"\p{N}", r"\p{N}+", r"\p{N}{1,3}", r"\d", r"\d{1,3}", r"[0-9]", r"\s+", r"\n"),
        r"[一-龥぀-ゟ゠-ヿ]+",
    )
)  # fmt: skip
_HARMLESS = frozenset(
    (
        *("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Prepend", "ByteLevel"),
        *("Digits", "Metaspace", "Punctuation", "Whitespace", "WhitespaceSplit"),
    )
)


class TokenizingError(PromptError):
    """A model's tokenizer fails on a text, or takes too long for it."""


def is_panic(error: BaseException) -> bool:
    """Return whether an error is a panic of a library written in Rust."""
    return type(error).__module__ == "pyo3_runtime"


@contextmanager
def contained() -> Iterator[None]:
    """Context manager: turn a panic into ValueError, and drop what the library prints about it."""
    with _ONE_AT_A_TIME, _silent_stderr():
        try:
            yield
        except BaseException as error:
            if not is_panic(error):
                raise
            raise ValueError(str(error)) from None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Context manager: drop everything written to file descriptor 2."""
    try:
        kept, is_inherited = os.dup(2), os.get_inheritable(2)
    except OSError:  # it is closed
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2, is_inherited)
        os.close(kept)
        os.close(sink)


def is_harmless(tokenizer: Any) -> bool:
    """Return whether all rules of a tokenizer are known to take bounded time for a text."""
    if type(tokenizer.model).__name__ != "BPE" or tokenizer.model.dropout:
        return False
    rules = (tokenizer.normalizer, tokenizer.pre_tokenizer)
    return all(_is_harmless(json.loads(one.__getstate__())) for one in rules if one is not None)


def _is_harmless(rule: dict[str, Any]) -> bool:
    kind = rule.get("type")
    if kind == "Sequence":
        return all(map(_is_harmless, rule.get("normalizers", rule.get("pretokenizers", ()))))
    if kind not in ("Split", "Replace"):
        return kind in _HARMLESS
    literal = rule["pattern"].get("String")
    if literal is None:
        return kind == "Split" and rule["pattern"].get("Regex") in _HARMLESS_EXPRESSIONS
    return kind == "Split" or len(rule["content"]) <= len(
        literal
    )  # several rules may double a text each


class Encoder:
    """An encoder of text to ids with a tokenizer of the ``tokenizers`` library.

    Args:
        tokenizer: the tokenizer; it must not change later.
        name: the model's name, for messages.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._child = None if is_harmless(tokenizer) else _Child(tokenizer)

    def encode(self, text: str, reading: Reading = "plain") -> list[int]:
        """Return the ids of a text.

        Args:
            text: the text.
            reading: see :data:`Reading`.

        Raises:
            TokenizingError: the tokenizer fails on it.
        """
        try:
            if self._child is not None:
                return self._child.encode(text, reading)
            with contained():
                return encode(self._tokenizer, text, reading)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise TokenizingError(
                f"{self._name}: its tokenizer cannot read this text: {said}"
            ) from error

    def encode_each(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many plain texts, each by itself; stderr is guarded only once.

        Raises:
            TokenizingError: the tokenizer fails on one.
        """
        if self._child is None:
            with suppress(ValueError), contained():  # the one that fails is found one by one
                return [encode(self._tokenizer, text, "plain") for text in texts]
        return [self.encode(text) for text in texts]


def encode(tokenizer: Any, text: str, reading: Reading) -> list[int]:
    """Return the ids that a tokenizer gives; its exceptions pass through."""
    tokenizer.encode_special_tokens = reading == "plain"
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=reading == "whole").ids
    finally:
        tokenizer.encode_special_tokens = False
    return ids


class _Child:
    """A child process that tokenizes; it ends with this object."""

    def __init__(self, tokenizer: Any) -> None:
        import tokenizers

        library = Path(str(tokenizers.__file__)).parents[1]
        self._process = LimitedProcess(
            [sys.executable, "-I", str(CHILD), str(library), str(_LONGEST_CPU_S), str(_MEMORY)],
            CHILD.parent,
            opening=lambda: _line(tokenizer.to_str()),
        )
        weakref.finalize(self, self._process.stop)

    def encode(self, text: str, reading: Reading) -> list[int]:
        """Return the ids of a text.

        Raises:
            ValueError: the tokenizer fails; with its message.
        """
        try:
            reply = self._process.ask(
                _line([text, reading]), wall_s=_WALL_S, memory=_MEMORY, reply_bytes=_MEMORY
            )
        except ProcessLimitError as error:
            raise ValueError(str(error)) from None
        except ProcessDiedError as error:
            if error.code == -signal.SIGPROF:
                raise ValueError(f"it takes more than {_LONGEST_CPU_S} s") from None
            raise ValueError(f"its process ended with code {error.code}") from None
        answer = json.loads(reply)
        if "error" in answer:
            raise ValueError(answer["error"])
        return [int(token) for token in answer["ids"]]


def _line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"
