"""What the guide says about good text survives the way to the base's vocabulary.

Mass is conserved by a wrong map, too. So the map is held to likelihood here: through it, the guide
finds good answers about as likely as it does in its own tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from blendin_mlx.backend.mlx import mx
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


@pytest.fixture(scope="module")
def guide(demo_pair: Pair) -> Context:
    return Context(demo_pair.aligned)


def per_token(pair: Pair, context: Context, table: Sequence[int]) -> float:
    """The guide's mean log-likelihood of the answers through a map, in nats a base token."""
    total, count = 0.0, 0
    for question, answer in GOOD_ANSWERS:
        prompt = list(build_prompt(pair, question).aligned.ids)
        reader = Guide(context, pair.projection(), prompt)
        text = AnswerText(pair.base.vocabulary)
        for token in pair.base.vocabulary.encode(answer):
            own = reader.advise(text).own_probs
            assert own is not None
            places = mx.array([t for t, target in enumerate(table) if target == token])
            mass = own[0, places].sum().item() if places.size else 0.0
            total += math.log(max(mass, 1e-12))  # type: ignore[type-var]
            count += 1
            text.append(token)
    return total / count


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


def test_the_guide_finds_good_answers_likely_through_the_map(
    demo_pair: Pair, guide: Context
) -> None:
    projection = demo_pair.projection()
    right = per_token(demo_pair, guide, projection.table)
    wrong = per_token(demo_pair, guide, lowest_ids(projection))
    print(f"right {right:.3f}, lowest ids {wrong:.3f}")
    assert right > -2.6
    assert wrong < right - 1.5
