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
from ..reading.advisor import Advisor
from ..reading.context import HEAD_ROWS, Context
from ..reading.guide import Guide
from ..reading.said import Said
from ..tokens.answer_text import AnswerText
from ..tokens.begun_tokens import Begun

# Positions whose logits of the guide are held at once: 128 rows of 150,000 take 77 MB.
SEGMENT = 128


class Block(NamedTuple):
    """Neighbouring positions of a text.

    Attributes:
        tokens: what stands there, ids of the base, ``[n]``.
        view: what the base says there, ``[n, …]``.
        said: what each guide says there; empty without a guide.
        readable: where the guide can read the text so far, ``[n]``.
    """

    tokens: list[int]
    view: View
    said: list[Said]
    readable: list[bool]


def read_positions(
    base: Context,
    prompt: Sequence[int],
    tokens: Sequence[int],
    guide: Advisor | None,
    temper: float = 1.0,
) -> Iterator[Block]:
    """Read a text with the base, and with the guide if there is one, block by block.

    Args:
        base: the base's context; what it shares with the prompt is not read again.
        prompt: what the base reads first, at least one token.
        tokens: the text in ids of the base, STOP at the end where that is to be looked at.
        guide: it has read nothing, or parts of its own prompt and of this text or another.
        temper: temperature of the base; the guide has its own.

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
            read = base.read(part, rows=len(part))
            probs = vocabulary.distribution(formulas.tempered(read, temper))
            view = View(probs, *formulas.top(probs))
            said = [_rows_of(one, start, start + HEAD_ROWS) for one in asked.said]
            yield Block(segment[rows], view, said, asked.readable[rows])


def _rows_of(said: Said, start: int, end: int) -> Said:
    """Return what a guide says at some of the positions of a segment."""
    begun = said.begun[start:end]
    done = sum(map(len, said.begun[:start]))
    before = [one[done : done + sum(map(len, begun))] for one in said.before]
    return Said([one[start:end] for one in said.logits], begun, before)


class _Asked(NamedTuple):
    """What each guide says at the positions of a segment, and where they can read the text."""

    said: list[Said]
    readable: list[bool]


def _ask(advisor: Advisor | None, answer: AnswerText, segment: Sequence[int]) -> _Asked:
    """Ask the guides at every position of a segment; ``answer`` grows by its tokens."""
    readings = [] if advisor is None else [_Reading(guide) for guide in advisor.members()]
    readable = []
    for token in segment:
        readable.append(advisor is not None and advisor.can_read(answer))
        for one in readings:
            one.note(answer, readable[-1])
        answer.append(token)
    return _Asked([one.said() for one in readings], readable)


class _Reading:
    """What one guide has to read for the positions of a segment."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._sequences: list[list[int]] = []
        self._begun: list[Begun] = []
        self._earlier: list[list[int]] = []

    def note(self, answer: AnswerText, readable: bool) -> None:
        """Note what is read for the position after the answer so far."""
        begun = self._guide.begun(answer) if readable else ()
        self._begun.append(begun)
        self._earlier += self._guide.sequences_before(answer, begun)
        self._sequences.append(self._guide.sequence(answer))

    def said(self) -> Said:
        """Read it all."""
        count = len(self._sequences)
        found = []
        for context in self._guide.contexts():
            assert isinstance(context, Context)
            found.append(logits_after(context, [*self._sequences, *self._earlier]))
        return Said([one[:count] for one in found], self._begun, [one[count:] for one in found])


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
        rising = [sequences[n] for n in reversed(chain)]
        logits, rows = _along(context, rising)
        parts.append(logits)
        for n, row in zip(reversed(chain), rows, strict=True):
            places[n] = before + row
        before += len(logits)
    return mx.concatenate(parts)[mx.array(places)]


def _along(context: Context, rising: Sequence[list[int]]) -> tuple[mx.array, list[int]]:
    """Return logits after sequences that extend one another, and the row of each."""
    if all(map(context.knows, rising)):
        return mx.concatenate(list(map(context.after, rising))), list(range(len(rising)))
    first, longest = len(rising[0]), rising[-1]
    unread = [*context.move_to(longest[: first - 1]), *longest[first - 1 :]]
    logits = context.read(unread, rows=len(longest) - first + 1)
    return logits, [len(one) - first for one in rising]


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
