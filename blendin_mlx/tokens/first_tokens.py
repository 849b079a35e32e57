"""How a base begins to write some bytes."""

from __future__ import annotations

from collections.abc import Sequence

from .vocabulary import Vocabulary


def first_tokens(base: Vocabulary, spellings: Sequence[bytes]) -> list[int]:
    """Return the token that the base begins each of some bytes with, which may be no UTF-8.

    That is the one that writes all of them, if there is one, and ``base.size`` if none begins them.
    """
    others = list(dict.fromkeys(one for one in spellings if one not in base.by_bytes))
    found = base.encode_each([_text(written) for written in others])
    first = {
        written: _first_token(base, ids[:1], written)
        for ids, written in zip(found, others, strict=True)
    }
    return [first[one] if one in first else base.by_bytes[one] for one in spellings]


def _text(written: bytes) -> str:
    """Return bytes as text, nothing where they are none."""
    try:
        return written.decode()
    except UnicodeDecodeError:
        return ""


def _first_token(base: Vocabulary, first: Sequence[int], written: bytes) -> int:
    """Return a first token, or the longest prefix in the base where that writes something else."""
    # Of what is no text nothing is known, and a normaliser may rewrite a text.
    begins = base.bytes_of(first)
    if begins and written.startswith(begins):
        return first[0]
    prefixes = (written[:n] for n in range(len(written), 0, -1))
    return next((base.by_bytes[p] for p in prefixes if p in base.by_bytes), base.size)
