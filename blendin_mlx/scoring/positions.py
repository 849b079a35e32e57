"""What both models say at every position of a given text, read in as few passes as it takes.

The base reads prompt and text once. The guide reads the text so far in its own tokens: where that
is a prefix of its tokens of a longer text, one pass gives both; where a later character changes
how the text is split, the changed tokens are read again from the common prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..backend.mlx import mx
from ..blend import formulas
from ..blend.method import View
from ..reading.context import HEAD_ROWS, Context
from ..reading.guide import Guide
from ..tokens.answer_text import AnswerText
from ..tokens.begun_tokens import Begun

# Positions whose logits of the guide are held at once: 128 rows of 150,000 take 77 MB.
SEGMENT = 128


class Block(NamedTuple):
    """Neighbouring positions of a text.

    Attributes:
        tokens: what stands there, ids of the base, ``[n]``.
        view: what the base says there, ``[n, …]``.
        logits: the guide's ``[n, V_g']``, and the reference model's ``[n, V_a']`` if there is one;
            none without a guide.
        begun: the guide tokens that are begun at each position.
        before: the logits of the guide's models at the places of those, ``[k, V']``.
        readable: where the guide can read the text so far, ``[n]``.
    """

    tokens: list[int]
    view: View
    logits: list[mx.array]
    begun: list[Begun]
    before: list[mx.array]
    readable: list[bool]


def read_positions(
    base: Context, prompt: Sequence[int], tokens: Sequence[int], guide: Guide | None
) -> Iterator[Block]:
    """Read a text with the base, and with the guide if there is one, block by block.

    Args:
        base: the base's context; what it shares with the prompt is not read again.
        prompt: what the base reads first, at least one token.
        tokens: the text in ids of the base, STOP at the end where that is to be looked at.
        guide: it has read nothing, or parts of its own prompt and of this text or another.

    Example:
        >>> for block in read_positions(cache.base, prompt.base.ids, ids, None):
        ...     block.view.probs[0, block.tokens[0]]
    """
    vocabulary = base.model.vocabulary
    base.prefill(base.move_to(prompt[:-1]))
    unread = [prompt[-1], *tokens[:-1]]
    answer = AnswerText(vocabulary)
    for begin in range(0, len(tokens), SEGMENT):
        segment = list(tokens[begin : begin + SEGMENT])
        asked = _ask(guide, answer, segment)
        for start in range(0, len(segment), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            part = unread[begin : begin + SEGMENT][rows]
            probs = vocabulary.distribution(base.read(part, rows=len(part)))
            view = View(probs, *formulas.top(probs))
            logits = [one[rows] for one in asked.logits]
            begun = asked.begun[rows]
            done = sum(map(len, asked.begun[:start]))
            before = [one[done : done + sum(map(len, begun))] for one in asked.before]
            yield Block(segment[rows], view, logits, begun, before, asked.readable[rows])


class _Asked(NamedTuple):
    """What the guide's models say at the positions of a segment: one array of each.

    Attributes:
        logits: after the text so far.
        begun: the guide tokens that are begun at each position.
        before: the logits of each model at the places of those, in their order.
        readable: where the guide can read the text so far.
    """

    logits: list[mx.array]
    begun: list[Begun]
    before: list[mx.array]
    readable: list[bool]


def _ask(guide: Guide | None, answer: AnswerText, segment: Sequence[int]) -> _Asked:
    """Ask the guide at every position of a segment; ``answer`` grows by its tokens."""
    asked = _Asked([], [], [], [])
    sequences, earlier = list[list[int]](), list[list[int]]()
    for token in segment:
        asked.readable.append(guide is not None and guide.can_read(answer))
        if guide is not None:
            asked.begun.append(guide.begun(answer) if asked.readable[-1] else ())
            earlier += guide.sequences_before(answer, asked.begun[-1])
            sequences.append(guide.sequence(answer))
        answer.append(token)
    for context in guide.contexts() if guide is not None else ():
        assert isinstance(context, Context)
        logits = logits_after(context, [*sequences, *earlier])
        asked.logits.append(logits[: len(sequences)])
        asked.before.append(logits[len(sequences) :])
    return asked


def logits_after(context: Context, sequences: Sequence[list[int]]) -> mx.array:
    """Return the logits ``[n, V']`` after each of ``n`` sequences that mostly extend one another.

    One pass serves all sequences that are prefixes of the longest of them. The shorter ones come
    last, so that what they share with the longest is still in the cache.

    Example:
        >>> logits_after(context, [[5], [5, 7], [5, 8, 2]]).shape[0]   # two passes
        3
    """
    places = [0] * len(sequences)
    parts = []
    before = 0
    for chain in _chains(sequences):
        head = sequences[chain[0]]
        first = len(sequences[chain[-1]])
        unread = [*context.move_to(head[: first - 1]), *head[first - 1 :]]
        logits = context.read(unread, rows=len(head) - first + 1)
        parts.append(logits)
        for n in chain:
            places[n] = before + len(sequences[n]) - first
        before += len(logits)
    return mx.concatenate(parts)[mx.array(places)]


def _chains(sequences: Sequence[list[int]]) -> list[list[int]]:
    """Sort sequences, by their places, into chains of prefixes of the first of each, longest first.

    Example:
        >>> _chains([[5], [5, 7], [5, 8, 2]])
        [[2, 0], [1]]
    """
    chains: list[list[int]] = []
    order = sorted(range(len(sequences)), key=lambda n: len(sequences[n]), reverse=True)
    for n in order:
        one = sequences[n]
        fits = (chain for chain in chains if sequences[chain[0]][: len(one)] == one)
        chain = next(fits, None)
        if chain is None:
            chains.append([n])
        else:
            chain.append(n)
    return chains
