"""How the vocabularies of two models stand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from blendin_mlx.model import Pair


@dataclass(frozen=True)
class Relation:
    """Two vocabularies compared by what their tokens write.

    Attributes:
        kind: ``same`` ids write the same bytes; ``padded``: the same, but for the number of logits.
        shared: share of the guide's writing tokens that the base has too.
    """

    kind: Literal["same", "padded", "different"]
    shared: float


def relation(pair: Pair) -> Relation:
    """Compare the vocabularies of a pair; no weight is read.

    Raises:
        PairError: a tokenizer whose tokens have no known bytes, or no stop token.
    """
    from blendin_mlx.tokens.projection import same_vocabulary

    base, aligned = pair.base.vocabulary, pair.aligned.vocabulary
    known = set(base.token_bytes)
    writing = [written for written in aligned.token_bytes if written]
    shared = sum(written in known for written in writing) / max(1, len(writing))
    if not same_vocabulary(base, aligned):
        return Relation("different", shared)
    equal = pair.base.logit_size == pair.aligned.logit_size
    return Relation("same" if equal else "padded", shared)
