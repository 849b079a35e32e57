"""What guides say, as logits, and what of it is asked at given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..backend.mlx import mx
from ..tokens.begun_tokens import Begun


class Said(NamedTuple):
    """The logits of a guide's models at ``n`` positions.

    Attributes:
        logits: the aligned model's ``[n, V_g']``, and the reference model's ``[n, V_a']`` if there
            is one.
        begun: the guide tokens that are begun at each position.
        before: the logits of each model at the places of those, in their order, ``[k, V']``.
    """

    logits: Sequence[mx.array]
    begun: Sequence[Begun] = ()
    before: Sequence[mx.array] = ()


class Told(NamedTuple):
    """What is said of one token of the base at each of ``n`` positions.

    Attributes:
        confidence: ``p̂_g``, ``[n]``.
        prob: ``P̃_g`` of the token, ``[n]``.
        counterpart: ``φ(t_g)``, ``[n]``.
        sure: ``p̂`` of each guide by itself, ``[n]``.
    """

    confidence: mx.array
    prob: mx.array
    counterpart: mx.array
    sure: tuple[mx.array, ...]
