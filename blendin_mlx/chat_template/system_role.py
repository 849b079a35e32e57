"""Chat templates without a system role: the system text goes before the first user message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .render import TemplateError, TemplateLimitError

Messages = Sequence[dict[str, str]]
Render = Callable[[Messages], str]


def render_with_system(render: Render, messages: Messages) -> tuple[str, bool]:
    """Render a conversation so that its system text is not lost.

    Args:
        render: renders messages with the model's template.
        messages: the conversation; a system message may come first.

    Returns:
        The text, and whether the system text was moved to the first user message, because the
        template refuses a system message or drops it.

    Raises:
        TemplateError: neither form can be rendered.

    Example:
        >>> render_with_system(render, [{"role": "system", "content": "Be brief."}, question])
        ('<user>Be brief.\\n\\nHi.', True)
    """
    first = messages[0]
    if first["role"] != "system":
        return render(messages), False
    says_something = bool(first["content"].strip())
    try:
        text = render(messages)
    except TemplateLimitError:
        raise
    except TemplateError as refusal:
        try:
            return render(moved(messages)), says_something
        except TemplateError:
            raise refusal from None
    if says_something and text == render([_changed(first), *messages[1:]]):
        return render(moved(messages)), True
    return text, False


def moved(messages: Messages) -> list[dict[str, str]]:
    """Return the messages with the system text before the first user message."""
    system, *turns = messages
    place = next(n for n, turn in enumerate(turns) if turn["role"] == "user")
    parts = (system["content"].strip(), turns[place]["content"])
    user = {**turns[place], "content": "\n\n".join(part for part in parts if part)}
    return [*turns[:place], user, *turns[place + 1 :]]


def _changed(system: dict[str, str]) -> dict[str, str]:
    """Return a different system message; if the output stays the same, the template drops it."""
    return {**system, "content": f".{system['content']}."}
