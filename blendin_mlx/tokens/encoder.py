"""A stranger's tokenizer at work: it may panic, or take for ever, and only its text may suffer.

The rules in ``tokenizer.json`` hold regular expressions that the library runs with the whole
process in its hands: no Ctrl-C reaches it, and a panic is not even an ``Exception``. Tokenizers
made of rules that are known to be harmless, as nearly all are, work in this process. Others work in
a child, which the system ends when a text takes too much time or memory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from ..errors import PromptError

# plain: control tokens spelled in the text stay text. marked: they are recognised.
# whole: as marked, and with the tokens that the tokenizer puts around a text.
Reading = Literal["plain", "marked", "whole"]

_ONE_AT_A_TIME = RLock()  # two threads would keep each other's descriptor of stderr
CHILD = Path(__file__).with_name("encoder_child.py")
_LONGEST_CPU_S = 2  # of the child, for one text: it does not depend on what else runs

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
    """Context manager: a panic raises ValueError, and what the library prints of it is dropped."""
    with _ONE_AT_A_TIME, _silent_stderr():
        try:
            yield
        except BaseException as error:
            if not is_panic(error):
                raise
            raise ValueError(str(error)) from None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Context manager: what is written to file descriptor 2, whoever writes it, is dropped."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def is_harmless(tokenizer: Any) -> bool:
    """Return whether a tokenizer is made of rules whose time grows with the text alone."""
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
    return kind == "Split" or len(rule["content"]) <= len(literal)  # several may double a text


class Encoder:
    """Text → ids, by a tokenizer of the ``tokenizers`` library.

    Args:
        tokenizer: it; it does not change any more.
        name: the model's name, for messages.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._child = None if is_harmless(tokenizer) else _Child()

    def encode(self, text: str, reading: Reading = "plain") -> list[int]:
        """Return the ids of a text.

        Raises:
            TokenizingError: the tokenizer fails on it.
        """
        try:
            if self._child is not None:
                return self._child.encode(self._tokenizer, text, reading)
            with contained():
                return encode(self._tokenizer, text, reading)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise TokenizingError(
                f"{self._name}: its tokenizer cannot read this text: {said}"
            ) from error


def encode(tokenizer: Any, text: str, reading: Reading) -> list[int]:
    """Return the ids that a tokenizer gives; whatever it raises comes through."""
    tokenizer.encode_special_tokens = reading == "plain"
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=reading == "whole").ids
    finally:
        tokenizer.encode_special_tokens = False
    return ids


class _Child:
    """A process that tokenizes, started when it is first asked, and again after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def encode(self, tokenizer: Any, text: str, reading: Reading) -> list[int]:
        """Return the ids of a text; raise ValueError with what went wrong."""
        try:
            if self._process is None:
                self._process = _start()
                weakref.finalize(self, _end, self._process)
                _ask(self._process, tokenizer.to_str())
            answer = _ask(self._process, [text, reading])
        except BaseException:
            if self._process is not None:
                _end(self._process)
                self._process = None
            raise
        if "error" in answer:
            raise ValueError(answer["error"])
        return [int(token) for token in answer["ids"]]


def _start() -> subprocess.Popen[bytes]:
    import tokenizers

    library = Path(str(tokenizers.__file__)).parent.parent
    return subprocess.Popen(
        [sys.executable, "-I", str(CHILD), str(library), str(_LONGEST_CPU_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process
    )


def _ask(process: subprocess.Popen[bytes], message: Any) -> Any:
    """Return the child's answer, one line of JSON; raise ValueError where it ended instead."""
    assert process.stdin is not None
    assert process.stdout is not None
    line = b""
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
    if line:
        return json.loads(line)
    if process.wait() == -signal.SIGPROF:
        raise ValueError(f"it takes more than {_LONGEST_CPU_S} s")
    raise ValueError(f"its process ended with code {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what could not be written is of no use
                pipe.close()
    process.wait()
