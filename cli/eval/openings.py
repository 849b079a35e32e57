"""What both models read of a request: the tokens before a text, and where it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..session import Session
from .conversations import conversation_of

if TYPE_CHECKING:
    from blendin_mlx.model import LanguageModel

_RECENT = 16  # contexts whose openings are kept: the options of a question share one


@dataclass(frozen=True)
class Opening:
    """How a model begins to read a request.

    Attributes:
        model: the model.
        head: ids before the text: the beginning of a text, or a rendered conversation.
        text: what follows; a continuation goes on from it.
        is_marked: control tokens that the text spells are recognised, as the harness's own models
            do; what follows a conversation is plain text.
    """

    model: LanguageModel
    head: tuple[int, ...]
    text: str
    is_marked: bool

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text, or of the text and what follows it."""
        vocabulary = self.model.vocabulary
        return vocabulary.encode_marked(text) if self.is_marked else vocabulary.encode(text)

    def read(self) -> list[int]:
        """Return all that the model reads before it writes."""
        return [*self.head, *self.encode(self.text)] or [first_token(self.model)]

    def split(self, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids before a continuation, and its own, by the rule of the harness.

        Spaces at the end of the text belong to the continuation. Its tokens are those of text and
        continuation together, from the number of tokens on that the text has by itself.

        Example:
            >>> Opening(model, (), "The capital is ", True).split("Rome")[1]   # those of " Rome"
        """
        text = self.text.rstrip()
        own = self.encode(text)
        whole = self.encode(self.text + continuation)
        return [*self.head, *own] or [first_token(self.model)], whole[len(own) :]


class Openings(NamedTuple):
    """How both models begin to read a request, and what ends an answer besides."""

    base: Opening
    aligned: Opening
    stops: tuple[str, ...] = ()


class Opener:
    """Finds out what the models of a session read of a request.

    Args:
        session: the models and the settings.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.open = lru_cache(_RECENT)(self._open)

    def _open(self, context: str) -> Openings:
        """Return what both models read of a context: it as it is, or each its own template.

        The system prompt is among the messages already.
        """
        pair = self._session.pair
        conversation = conversation_of(context)
        if conversation is None:
            base, aligned = (
                Opening(model, model.beginning, context, True)
                for model in (pair.base, pair.aligned)
            )
            return Openings(base, aligned)
        settings = replace(self._session.settings, system=None)
        prompt = self._session.prompt(conversation.messages, settings)
        return Openings(
            Opening(pair.base, prompt.base.ids, conversation.begun, False),
            Opening(pair.aligned, prompt.aligned.ids, conversation.begun, False),
            prompt.stops,
        )

    def fitting(self, model: LanguageModel, ids: Sequence[int], following: int) -> list[int]:
        """Return ids without those at the beginning that leave no room for what follows.

        Args:
            model: reads them.
            ids: what it reads.
            following: how many tokens are to follow.
        """
        limit = model.context_limit
        if limit is None or len(ids) + following <= limit or following >= limit:
            return list(ids)
        self._session.say_once(
            f"a prompt is longer than {model.name} can read, which holds {limit} tokens: its "
            "beginning is left out, as the harness does"
        )
        return list(ids[following - limit :])


def first_token(model: LanguageModel) -> int:
    """Return the token that stands for nothing read so far: beginning-of-text, else end-of-text."""
    known = (getattr(model.tokenizer, f"{name}_token_id", None) for name in ("bos", "eos"))
    return next((int(one) for one in known if one is not None), model.vocabulary.stop)
