"""Parts of an answer as plain values: made on the decoding thread, sent from any other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Piece, Response
    from blendin_mlx.model import Pair
    from blendin_mlx.step import Candidate, Step
    from blendin_mlx.tokens.vocabulary import Vocabulary

LEAST = -9999.0  # the logarithm of no probability at all, as OpenAI writes it
BRIEF = ("id", "text", "source", "alpha")  # of a decision, where no more is asked for
FINISH = {"stop": "stop", "stop_string": "stop", "length": "length", "context": "length"}


@dataclass(frozen=True)
class TokenProb:
    """A token's bytes and the logarithm of its probability, None where nothing came before it."""

    written: bytes
    logprob: float | None


@dataclass(frozen=True)
class ShownToken:
    """A token of the text that a client gets, and the likeliest ones at its place."""

    token: TokenProb
    top: tuple[TokenProb, ...]


@dataclass(frozen=True)
class Start:
    """What is known before the first token.

    Attributes:
        thinking: the prompt has opened a block of thinking.
    """

    thinking: bool = False


@dataclass(frozen=True)
class Part:
    """Some more of an answer.

    Attributes:
        text: what follows in the text.
        shown: the tokens of it, the end and what a stop string took away left out.
        decisions: who decided, for every token; their texts together are the text.
        finish: why it ended, in OpenAI's words; in the last part only.
        usage: tokens of the prompt and of the answer; in the last part only.
        blend: what the answer was, as a whole; in the last part only.
    """

    text: str
    shown: tuple[ShownToken, ...]
    decisions: tuple[dict[str, Any], ...]
    finish: str | None = None
    usage: tuple[int, int] = (0, 0)
    blend: dict[str, Any] = field(default_factory=dict)


class PartMaker:
    """Makes parts of the responses to one request.

    Args:
        pair: the models.
        top: how many alternatives of each shown token.
        detailed: with both models' favourites in every decision.
    """

    def __init__(self, pair: Pair, top: int, detailed: bool) -> None:
        self._pair, self._top, self._detailed = pair, top, detailed
        self._settled = self._written = 0

    def part(self, response: Response) -> Part:
        """Return a response as a part."""
        self._written += len(response.text)
        shown, decisions = list[ShownToken](), list[dict[str, Any]]()
        for piece in response.pieces:
            if self._is_shown(piece, last=response.finish_reason is not None):
                shown.append(self._shown(piece))
            room = max(0, self._written - self._settled)  # a stop string takes the rest away
            decisions.append(self._decision(piece.step, piece.text[:room]))
            self._settled += len(piece.text)
        part = Part(response.text, tuple(shown), tuple(decisions))
        finish = FINISH.get(response.finish_reason or "")
        return part if finish is None else self._last(part, finish, response)

    def _is_shown(self, piece: Piece, last: bool) -> bool:
        """Return False for the end, and for what a stop string or a limit took away."""
        return not piece.step.is_stop and not (last and self._settled >= self._written)

    def _shown(self, piece: Piece) -> ShownToken:
        step, vocabulary = piece.step, self._pair.base.vocabulary
        known = step.candidates
        ranked = (known.blend or known.base) if known is not None else ()
        top = tuple(token_of(one, vocabulary) for one in ranked[: self._top])
        return ShownToken(TokenProb(vocabulary.bytes_of([step.id]), log_of(step.prob)), top)

    def _decision(self, step: Step, text: str) -> dict[str, Any]:
        from blendin_mlx.trace.records import step_record

        record = step_record(step, text, self._pair)
        return record if self._detailed else {name: record[name] for name in BRIEF}

    def _last(self, part: Part, finish: str, response: Response) -> Part:
        statistics = response.statistics
        blend = statistics.as_json()["blend"]
        rate = blend.pop("intervention_rate")
        usage = statistics.base_prompt_tokens, statistics.completion_tokens
        return Part(part.text, part.shown, part.decisions, finish, usage, {**blend, "rate": rate})


def token_of(candidate: Candidate, vocabulary: Vocabulary) -> TokenProb:
    """Return a token of a vocabulary with its probability."""
    return TokenProb(vocabulary.bytes_of([candidate.id]), log_of(candidate.prob))


def log_of(probability: float) -> float:
    """Return a logarithm that JSON can hold."""
    return max(math.log(probability), LEAST) if probability > 0 else LEAST


def joined(parts: Sequence[Part]) -> Part:
    """Return all parts of an answer as one."""
    last = parts[-1]
    return Part(
        "".join(part.text for part in parts),
        tuple(token for part in parts for token in part.shown),
        tuple(decision for part in parts for decision in part.decisions),
        last.finish,
        last.usage,
        last.blend,
    )
