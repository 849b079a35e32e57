"""Turn tokens: tokens that a chat template writes around messages, marked special or not.

Some tokenizers have tokens for turns, such as ``<|user|>``, that are not marked special. Read as
text, they would show in answers, and a user could forge a turn by spelling them.
"""

from __future__ import annotations

import re
from typing import Any

from ..chat_template.render import TemplateError, TemplateLimitError, render_chat

USER = {"role": "user", "content": "."}
ANSWER = {"role": "assistant", "content": "blendin-probe"}
SYSTEM = {"role": "system", "content": "."}
_PROBES = ([USER, ANSWER, USER], [SYSTEM, USER, ANSWER, USER])
# Letters between two punctuation characters, as in <|user|> or [INST]; other tokens are text.
_MARKER = re.compile(r"[^\w\s].*\w.*[^\w\s]", re.DOTALL)
# A token with a closing counterpart, such as <think>, is text for the reader.
_TAG = re.compile(r"</?([^</>]+)>")


def added_tokens(tokenizer: Any) -> dict[int, Any]:
    """Return the added tokens of a fast tokenizer by id; none for other kinds of tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return {} if backend is None else dict(backend.get_added_tokens_decoder())


def unmarked_turn_tokens(tokenizer: Any, source: str | None) -> frozenset[int]:
    """Return the added tokens that a chat template writes but that are not marked special.

    Example:
        >>> unmarked_turn_tokens(tokenizer, "{% for m in messages %}<|{{ m.role }}|>…")
        frozenset({128011, 128012})
    """
    unmarked = _unmarked_markers(tokenizer)
    if source is None or not unmarked:
        return frozenset()
    found: set[int] = set()
    for messages in _PROBES:
        try:
            text = render_chat(tokenizer, source, messages, add_generation_prompt=True)
        except TemplateLimitError:
            break
        except TemplateError:  # it has no system role, say
            continue
        found |= {token for token, spelled in unmarked.items() if spelled in text}
    return frozenset(found)


def _unmarked_markers(tokenizer: Any) -> dict[int, str]:
    added = added_tokens(tokenizer)
    spelled = {entry.content for entry in added.values()}
    return {
        token: entry.content
        for token, entry in added.items()
        if not entry.special and _MARKER.fullmatch(entry.content) and not _has_pair(entry, spelled)
    }


def _has_pair(entry: Any, spelled: set[str]) -> bool:
    tag = _TAG.fullmatch(entry.content)
    return tag is not None and {f"<{tag[1]}>", f"</{tag[1]}>"} <= spelled


def turn_end(tokenizer: Any, source: str, unmarked: frozenset[int]) -> int | None:
    """Return the control token that a chat template writes after an assistant's message."""
    try:
        text = render_chat(tokenizer, source, [USER, ANSWER])
    except TemplateError:  # the template may refuse anything; the configured tokens remain
        return None
    rest = text.rpartition(ANSWER["content"])[2].lstrip()
    spelled = {
        entry.content: token
        for token, entry in added_tokens(tokenizer).items()
        if (entry.special or token in unmarked) and rest.startswith(entry.content)
    }
    return spelled[max(spelled, key=len)] if spelled else None
