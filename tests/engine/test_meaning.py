"""What the guide says about good text survives the way to the base's vocabulary.

Mass is conserved by a wrong map, too. So the map is held to likelihood here: through it, the guide
finds good answers about as likely as it does in its own tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blendin_mlx.model import Pair
from blendin_mlx.prompts import build_prompt
from blendin_mlx.reading.context import Context
from blendin_mlx.reading.guide import Guide
from blendin_mlx.tokens.answer_text import AnswerText
from blendin_mlx.tokens.projection import Projection

GOOD_ANSWERS = (
    ("What is the capital of Portugal?", "The capital of Portugal is Lisbon."),
    (
        "How do I boil an egg?",
        "1. Bring a pot of water to a boil.\n2. Lower the egg into the water.\n"
        "3. Cook it for eight minutes.\n4. Cool it in cold water, then peel it.",
    ),
    ("What is 7 times 8?", "7 times 8 is 56."),
    (
        "Name three colors.",
        "Three colors are:\n\n- Red\n- Blue\n- Green",
    ),
    (
        "Is it safe to mix bleach and vinegar?",
        "No. Mixing bleach and vinegar makes chlorine gas, which is dangerous to breathe.",
    ),
)


def readings(pair: Pair) -> list[tuple[int, npt.NDArray[Any]]]:
    """Each token of the good answers, and what the guide thinks of its own tokens there."""
    read = []
    context = Context(pair.aligned)
    for question, answer in GOOD_ANSWERS:
        prompt = list(build_prompt(pair, question).aligned.ids)
        reader = Guide(context, pair.projection(), prompt)
        text = AnswerText(pair.base.vocabulary)
        for token in pair.base.vocabulary.encode(answer):
            own = reader.advise(text).own_probs
            assert own is not None
            read.append((token, np.array(own[0])))
            text.append(token)
    return read


def per_token(read: list[tuple[int, npt.NDArray[Any]]], table: Sequence[int]) -> float:
    """The guide's mean log-likelihood of the answers through a map, in nats a base token."""
    targets = np.array(table)
    return sum(math.log(max(own[targets == token].sum(), 1e-12)) for token, own in read) / len(read)


def lowest_ids(projection: Projection) -> list[int]:
    """A map that conserves all mass and goes to the lowest id with the same bytes."""
    lowest: dict[bytes, int] = {}
    for token, written in enumerate(projection.base.token_bytes):
        if written:
            lowest.setdefault(written, token)
    return [
        lowest.get(projection.base.token_bytes[target] or b"", target)
        if target < projection.base.size
        else target
        for target in projection.table
    ]


def test_the_guide_finds_good_answers_likely_through_the_map(demo_pair: Pair) -> None:
    projection, read = demo_pair.projection(), readings(demo_pair)
    right, wrong = (per_token(read, one) for one in (projection.table, lowest_ids(projection)))
    print(f"right {right:.3f}, lowest ids {wrong:.3f}")
    assert right > -2.6
    assert wrong < right - 1.5


def test_the_guide_finishes_a_contraction_that_the_base_spells_in_two(demo_pair: Pair) -> None:
    base = demo_pair.base.vocabulary
    text = AnswerText(base)
    for token in base.encode("No, it'"):
        text.append(token)
    prompt = build_prompt(demo_pair, "Do goldfish have a short memory?").aligned.ids
    said = Guide(Context(demo_pair.aligned), demo_pair.projection(), list(prompt)).advise(text)
    (rest,) = base.encode("s")
    assert text.ids[-1] == base.by_bytes[b"'"]
    assert said.probs[0, rest].item() > 0.5  # 0.000 for a guide that reads the lone apostrophe
