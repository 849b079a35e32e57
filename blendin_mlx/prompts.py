"""Prompts: chat messages rendered for each of the two models.

The aligned model reads its own chat template. The base, which was not trained on one, reads a plain
text form. Each form knows the markers that begin the next turn; they end an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from .base_templates import BASE_TEMPLATES, INTRO, SHOWN, BaseTemplate
from .chat_template.reasoning import OPENING, without_reasoning
from .chat_template.render import TemplateError, render_chat, render_text
from .chat_template.system_role import render_with_system
from .errors import PairError, PromptError, no_chat_template
from .model import LanguageModel, Pair
from .roles import Role, by_role
from .tokens.vocabulary import Vocabulary

Message = Mapping[str, str]

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """The prompt of one model.

    ``system_moved``: true if its template has no system role, so that the system text is in the
    first user message.
    """

    text: str
    ids: tuple[int, ...]
    system_moved: bool = False


@dataclass(frozen=True)
class PairPrompt:
    """The prompts of both models, those of further guides, and strings that end the answer."""

    base: Prompt
    aligned: Prompt
    stops: tuple[str, ...] = ()
    others: tuple[Prompt, ...] = ()

    @property
    def guides(self) -> tuple[Prompt, ...]:
        """The prompts of all guides."""
        return (self.aligned, *self.others)

    @property
    def guide_ids(self) -> list[tuple[int, ...]]:
        """The tokens of the prompts of all guides."""
        return [prompt.ids for prompt in self.guides]

    def by_role(self) -> dict[Role, Prompt]:
        """Return what a model of each role reads; a reference model reads what the guide reads."""
        return by_role(self.base, self.aligned, self.aligned, self.others)

    @property
    def opens_thinking(self) -> bool:
        """True if a guide's template has begun its thinking already."""
        return any(prompt.text.rstrip().endswith(OPENING) for prompt in self.guides)


def build_prompt(
    pair: Pair,
    prompt: str | Sequence[Message],
    *,
    base_template: str | BaseTemplate = "query",
    aligned_template: str | None = None,
    thinking: bool = False,
) -> PairPrompt:
    """Render a conversation for both models of a pair.

    Thinking in earlier answers is left out for both, as the templates of thinking models do.

    Args:
        pair: the models.
        prompt: one user message as a string, or messages with ``role`` and ``content``.
        base_template: a key of :data:`BASE_TEMPLATES`, ``chat`` for the base's own chat template,
            or a template.
        aligned_template: Jinja source to use instead of the aligned model's own chat template; of
            several guides, the first one's.
        thinking: whether a thinking model may think first; passed to its chat template as
            ``enable_thinking``. A guide that thinks pulls the base into its thoughts.

    Raises:
        PromptError: an empty or malformed conversation.
        PairError: the aligned model has no chat template, or a template refuses the messages.

    Example:
        >>> build_prompt(pair, "How do I boil an egg?").base.text.splitlines()[-1]
        '# Answer:'
    """
    messages = [_spoken(message) for message in check_messages(prompt)]
    source = pair.aligned.chat_template if aligned_template is None else aligned_template
    if source is None:
        raise no_chat_template(pair.aligned.name)
    aligned = _chat_prompt(pair.aligned, messages, source, thinking)
    others = tuple(_guide_prompt(guide, messages, thinking) for guide in pair.others)
    if base_template == "chat":
        own = pair.base.chat_template
        if own is None:
            raise PairError(
                f"{pair.base.name} has no chat template; choose another --base-template"
            )
        base = _chat_prompt(pair.base, messages, own, thinking)
        return PairPrompt(base, aligned, others=others)
    template = base_template
    if isinstance(template, str):
        if template not in BASE_TEMPLATES:
            known = ", ".join((*BASE_TEMPLATES, "chat"))
            raise ValueError(f"base template must be one of {known}, not {template!r}")
        template = BASE_TEMPLATES[template]
    base = _text_prompt(pair.base, messages, template)
    return PairPrompt(base, aligned, template.stops, others)


def _guide_prompt(guide: LanguageModel, messages: list[dict[str, str]], thinking: bool) -> Prompt:
    if guide.chat_template is None:
        raise no_chat_template(guide.name)
    return _chat_prompt(guide, messages, guide.chat_template, thinking)


def check_messages(prompt: str | Sequence[Message]) -> list[dict[str, str]]:
    """Return messages as plain dictionaries, after checking that a model can answer them.

    Raises:
        PromptError: names the message and what is wrong.
    """
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    messages = [dict(message) for message in prompt]
    for n, message in enumerate(messages):
        content = message.get("content")
        if message.get("role") not in _ROLES or not isinstance(content, str):
            raise PromptError(
                f"message {n + 1} needs a role ({', '.join(_ROLES)}) and a content string"
            )
        _check_text(content, n)
        if message["role"] == "system" and n:
            raise PromptError(f"message {n + 1} is a system message; only the first may be one")
    if not messages or messages[-1]["role"] != "user":
        raise PromptError("a conversation must end with a user message")
    if not messages[-1]["content"].strip():
        raise PromptError("the prompt is empty: there is nothing to answer")
    return messages


def _check_text(content: str, n: int) -> None:
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"message {n + 1} is not valid text: a lone surrogate at character {error.start}"
        ) from None


def _spoken(message: dict[str, str]) -> dict[str, str]:
    if message["role"] != "assistant":
        return message
    return {**message, "content": without_reasoning(message["content"])}


def _text_prompt(
    model: LanguageModel, messages: list[dict[str, str]], template: BaseTemplate
) -> Prompt:
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    turns = messages[1:] if system or messages[0]["role"] == "system" else messages
    values = {"system": system, "messages": turns, "intro": INTRO, "examples": _shown_turns()}
    try:
        text = render_text(template.source, **values)
    except TemplateError as error:
        raise PairError(f"the base template cannot be rendered: {error}") from error
    return Prompt(text, (*model.beginning, *model.vocabulary.encode(text)))


def _shown_turns() -> list[dict[str, str]]:
    return [
        {"role": role, "content": content}
        for turn in SHOWN
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]


def _chat_prompt(
    model: LanguageModel,
    messages: list[dict[str, str]],
    source: str,
    thinking: bool,
) -> Prompt:
    shield = _unused_noncharacter(messages)
    shielded = [
        {**message, "content": _shield(message["content"], model.vocabulary, shield)}
        for message in messages
    ]
    render = partial(
        render_chat,
        model.tokenizer,
        source,
        add_generation_prompt=True,
        enable_thinking=thinking,
    )
    try:
        text, moved = render_with_system(render, shielded)
    except TemplateError as error:
        raise PairError(f"{model.name}: its chat template cannot be rendered: {error}") from error
    ids = [
        token
        for n, part in enumerate(text.split(shield))
        for token in model.vocabulary.encode_marked(part, continues=n > 0)
    ]
    if tuple(ids[: len(model.beginning)]) != model.beginning:
        ids = [*model.beginning, *ids]
    return Prompt(text.replace(shield, ""), tuple(ids), moved)


def _unused_noncharacter(messages: Sequence[Message]) -> str:
    """Return a noncharacter of Unicode that no message contains."""
    used = {char for message in messages for char in message["content"]}
    known = (*range(0xFDD0, 0xFDF0), *(plane + 0xFFFF for plane in range(0, 0x110000, 0x10000)))
    unused = (char for char in map(chr, known) if char not in used)
    if (char := next(unused, None)) is None:
        raise PromptError("the messages contain every noncharacter of Unicode; leave one out")
    return char


def _shield(content: str, vocabulary: Vocabulary, shield: str) -> str:
    """Split each control token spelled in a message, so that it stays text."""
    for spelling in vocabulary.special_spellings:
        content = content.replace(spelling, spelling[0] + shield + spelling[1:])
    return content
