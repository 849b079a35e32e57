"""Build the prompts of both models from a conversation and the settings of a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .options.settings import Settings

if TYPE_CHECKING:
    from blendin_mlx.model import Pair
    from blendin_mlx.prompts import PairPrompt


def prompt_of(
    pair: Pair,
    messages: list[dict[str, str]],
    settings: Settings,
    began: Settings,
) -> PairPrompt:
    """Build the prompts of both models, the system prompt first.

    Args:
        pair: the models.
        messages: the conversation.
        settings: the current settings.
        began: the settings that the pair was loaded with; their template is in use already.
    """
    from blendin_mlx.base_templates import BaseTemplate
    from blendin_mlx.input_text import read_text
    from blendin_mlx.prompts import build_prompt
    from blendin_mlx.reading.room import check_fits

    if settings.system is not None:
        messages = [{"role": "system", "content": settings.system}, *messages]
    check_fits(pair.base, messages)
    base, path = settings.base_template, settings.aligned_template
    return build_prompt(
        pair,
        messages,
        base_template=BaseTemplate(read_text(base)) if isinstance(base, Path) else base,
        aligned_template=None if path in (None, began.aligned_template) else read_text(path),
        thinking=settings.thinking,
    )


def joined(*parts: str) -> str:
    """Join the parts of a prompt with empty lines."""
    return "\n\n".join(parts)


def notices(pair: Pair, prompt: PairPrompt) -> list[str]:
    """Return notices for the user about a prompt, a line each."""
    names = [guide.name for guide in pair.guides]
    read = {pair.base.name: prompt.base, **dict(zip(names, prompt.guides, strict=True))}
    return [
        f"{name} has no system role: the system prompt is put before the first message"
        for name, prompt in read.items()
        if prompt.system_moved
    ]
