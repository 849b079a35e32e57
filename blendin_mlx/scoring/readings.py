"""What both models say at the positions of a good answer, in the numbers that a dial needs.

Five numbers of a position say what any gate and weight make of it: ``P_b(y)``, ``p̂_b``,
``P̃_g(y)``, ``p̂_g`` and ``P_b(t_g)`` for the token ``y`` that stands there. The last three are kept
for each temperature of the guide that shall be tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backend.mlx import mx
from ..blend.dial import Dialled
from ..blend.methods import make_method
from ..model import Pair
from ..prompt_cache import PromptCache, make_prompt_cache
from ..prompts import PairPrompt
from ..reading.advisor import Advisor
from ..reading.make_guide import make_guide
from ..tokens.projection import ProjectionRule
from .given_text import check_room, given_text
from .positions import Block, read_positions
from .score import check_all_finite, score

TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """What both models say at the ``n`` positions of one answer.

    Attributes:
        temperatures: of the guide, ``[K]``.
        tokens: ``y``, ids of the base, ``[n]``.
        base_prob, base_top: ``P_b(y)`` and ``p̂_b``, ``[n]``.
        guide_prob, guide_top, agreement: ``P̃_g(y)``, ``p̂_g`` and ``P_b(t_g)``, ``[K, n]``.
        readable: where the guide can be asked, ``[n]``; it cannot within a character.
        same_top: where both models have the same top token, ``[n]``.
        base_right, guide_right: where that of each is ``y``, ``[n]``.
        guide_total: the answer's log-likelihood by the guide alone, in its own tokens.
    """

    temperatures: Numbers
    tokens: npt.NDArray[np.int64]
    base_prob: Numbers
    base_top: Numbers
    guide_prob: Numbers
    guide_top: Numbers
    agreement: Numbers
    readable: Flags
    same_top: Flags
    base_right: Flags
    guide_right: Flags
    guide_total: float

    def as_json(self) -> dict[str, Any]:
        """Return lists and numbers that JSON can hold; :meth:`from_json` takes them."""
        return {
            field.name: np.asarray(getattr(self, field.name)).tolist() for field in fields(self)
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Reading:
        """Return the reading of what :meth:`as_json` gave.

        Raises:
            ValueError: it is not of that form.
        """
        try:
            arrays = {field.name: np.asarray(kept[field.name]) for field in fields(cls)}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a reading: {error}") from None
        count, tried = arrays["tokens"].size, arrays["temperatures"].size
        for name, array in arrays.items():
            shapes = {"temperatures": (tried,), "guide_total": ()}
            wide = ("guide_prob", "guide_top", "agreement")
            if array.shape != shapes.get(name, (tried, count) if name in wide else (count,)):
                raise ValueError(f"not a reading: {name} has the shape {array.shape}")
        values: dict[str, Any] = {**arrays, "guide_total": float(arrays["guide_total"])}
        return cls(**values)


def read_example(
    pair: Pair,
    prompt: PairPrompt,
    answer: str,
    *,
    complete: bool = True,
    temperatures: Sequence[float] = TEMPERATURES,
    projection: ProjectionRule = "prefix",
    prompt_cache: PromptCache | None = None,
) -> Reading:
    """Read a prompt and a good answer to it with both models.

    Args:
        pair: the models.
        prompt: what both read before the answer.
        answer: the good answer.
        complete: the answer ends there: STOP is looked at as its last token.
        temperatures: of the guide, to be tried later.
        projection: see :class:`.projection.Projection`.
        prompt_cache: contexts of an earlier call; the common prefix is not read again.

    Raises:
        PromptError: nothing to read, or more than a context holds.
        NumericalError: logits that are not finite.
        ValueError: a temperature that is not above 0.

    Example:
        >>> read_example(pair, build_prompt(pair, "What is 2 + 2?"), "4").base_prob[0]
    """
    if not all(temp > 0 for temp in temperatures):
        raise ValueError("a temperature of the guide must be above 0")
    text = given_text(pair, prompt, answer, complete)
    check_room(pair.base, len(prompt.base.ids) + len(text.ids))
    cache = prompt_cache or make_prompt_cache(pair)
    alone = score(
        pair, prompt, answer, method="aligned", complete=complete, prompt_cache=cache
    ).total
    aligned = make_method("aligned")
    guides = {
        temp: make_guide(
            pair, cache, Dialled(aligned, guide_temp=temp), projection, prompt.guide_ids
        )
        for temp in dict.fromkeys((1.0, *temperatures))
    }
    tokens = [*text.ids, *([pair.base.vocabulary.stop] if complete else [])]
    parts: list[Numbers] = []
    for block in read_positions(cache.base, prompt.base.ids, tokens, guides[1.0]):
        part, sure = _columns(block, guides, temperatures)
        before = sum(one.shape[1] for one in parts)
        check_all_finite(pair.base, part[1].tolist(), before)
        for model, confidences in zip(pair.guides, sure, strict=True):
            check_all_finite(model, confidences.tolist(), before)
        parts.append(part)
    return _reading(np.concatenate(parts, axis=1), temperatures, tokens, alone)


def _columns(
    block: Block, guides: Mapping[float, Advisor], temperatures: Sequence[float]
) -> tuple[Numbers, Numbers]:
    """Read back the numbers of a block, and how sure each guide is.

    They are two numbers and three flags, then three numbers a temperature, then one flag.
    """
    base, tokens = block.view, mx.array(block.tokens)
    padded = mx.pad(base.probs, [(0, 0), (0, 1)])  # a top token without counterpart has 0
    rows = [_at(base.probs, tokens), base.confidence, base.token == tokens]
    told = {temp: guide.told(block.tokens, block.said) for temp, guide in guides.items()}
    plain = told[1.0]
    rows += [plain.counterpart == base.token, plain.counterpart == tokens]
    for one in (told[temp] for temp in temperatures):
        rows += [one.confidence, one.prob, _at(padded, one.counterpart)]
    rows.append(mx.array(block.readable))
    return _read([*rows, *plain.sure], len(plain.sure))


def _read(rows: Sequence[mx.array], last: int) -> tuple[Numbers, Numbers]:
    """Read rows back in one array; return the first of them, and the ``last`` ones."""
    read = np.array(mx.stack([row.astype(mx.float32) for row in rows])).astype(np.float64)
    return read[:-last], read[-last:]


def _at(probs: mx.array, tokens: mx.array) -> mx.array:
    return mx.take_along_axis(probs, tokens[:, None], axis=-1)[:, 0]


def _reading(
    rows: Numbers, temperatures: Sequence[float], tokens: Sequence[int], alone: float
) -> Reading:
    base_prob, base_top, base_right, same_top, guide_right, *others, readable = rows
    return Reading(
        temperatures=np.array(temperatures, dtype=np.float64),
        tokens=np.array(tokens),
        base_prob=base_prob,
        base_top=base_top,
        guide_top=np.stack(others[0::3]),
        guide_prob=np.stack(others[1::3]),
        agreement=np.stack(others[2::3]),
        readable=readable > 0,
        same_top=same_top > 0,
        base_right=base_right > 0,
        guide_right=guide_right > 0,
        guide_total=alone,
    )
