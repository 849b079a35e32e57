"""A text to score, in the tokens of the model that it is scored with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import PromptError
from ..model import LanguageModel, Pair
from ..prompts import PairPrompt
from ..reading.room import too_long


class GivenText(NamedTuple):
    """A text to score.

    Attributes:
        ids: in tokens of the model that it is scored with.
        written: the same as text.
        complete: it ends there.
    """

    ids: Sequence[int]
    written: str
    complete: bool


def given_text(
    pair: Pair, prompt: PairPrompt, answer: str | Sequence[int], complete: bool
) -> GivenText:
    """Return an answer in ids of the base and as text.

    Raises:
        PromptError: nothing to score, half a surrogate pair, or an empty prompt.
    """
    vocabulary = pair.base.vocabulary
    if isinstance(answer, str):
        try:
            answer.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the answer is not valid text: a lone surrogate at character {error.start}"
            ) from None
        text = GivenText(vocabulary.encode(answer), answer, complete)
    else:
        written = vocabulary.bytes_of(answer).decode(errors="replace")
        text = GivenText(list(answer), written, complete)
    if not text.ids and not complete:
        raise PromptError("the answer is empty: there is nothing to score")
    if not prompt.base.ids or not prompt.aligned.ids:
        raise PromptError("the prompt is empty: a template writes nothing")
    return text


def check_room(model: LanguageModel, tokens: int) -> None:
    """Refuse a prompt and an answer that a model's context cannot hold.

    Raises:
        PromptError: naming the model and its limit.
    """
    limit = model.context_limit
    if limit is not None and tokens > limit:
        raise too_long(model, f"prompt and answer have {tokens}", "the answer")
