"""Checks that what is to be read fits a context; of a long text, before all is tokenized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PromptError
from ..model import LanguageModel

PART = (
    100_000  # characters tokenized at once: a tenth of a second, and Ctrl-C takes effect in between
)
JOINT = 2  # most extra tokens where a text is cut


def check_fits(model: LanguageModel, prompt: str | Sequence[Mapping[str, Any]]) -> None:
    """Refuse a long prompt that a model's context cannot hold; short ones are not checked.

    Args:
        model: the model that reads it.
        prompt: a text, or messages as :func:`.prompts.build_prompt` takes them.

    Raises:
        PromptError: names the model and its limit.
    """
    limit, text = model.context_limit, prompt
    if not isinstance(text, str):
        contents = (message.get("content") for message in prompt if isinstance(message, Mapping))
        text = "\n".join(content for content in contents if isinstance(content, str))
    if limit is None or len(text) <= PART:
        return
    vocabulary = model.vocabulary
    longest = max(len(written) for written in vocabulary.token_bytes if written)
    least, counted = len(text.encode(errors="replace")) // longest, 0
    for start in range(0, len(text), PART):
        if least >= limit:
            break
        counted += len(vocabulary.encode(text[start : start + PART])) - JOINT
        least = max(least, counted)
    if least >= limit:
        raise too_long(model, f"the prompt has more than {least}", "it")


def too_long(model: LanguageModel, what: str, shorten: str) -> PromptError:
    """Return the error of a text that a model's context cannot hold.

    Args:
        model: the model that reads it.
        what: the text and how many tokens it has.
        shorten: what to shorten.
    """
    return PromptError(
        f"{what} tokens for {model.name}, whose context holds {model.context_limit}; "
        f"shorten {shorten}"
    )
