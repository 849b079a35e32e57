"""Rendering of templates in a child process, with limits and errors in one line.

Templates are untrusted programs. Jinja's sandbox keeps them from files and from Python's internals,
but not from looping forever or filling the memory; so they run in a child process
(:mod:`.child`), which is kept for the session and replaced after it was killed.
"""

from __future__ import annotations

import atexit
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..limited_process import LimitedProcess, ProcessDiedError, ProcessLimitError

CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Limits:
    """Limits for rendering one template.

    Processor time stops a template that never ends: it does not depend on what else the machine
    runs. Wall-clock time is the last resort.
    """

    cpu_s: float = 5.0
    wall_s: float = 120.0
    memory: int = 600 * 1024 * 1024  # bytes
    characters: int = 20_000_000


LIMITS = Limits()
_LONGEST_REFUSAL = 4096  # bytes of a reply without text


class TemplateError(ValueError):
    """A template cannot be rendered: it is wrong, or refuses its input."""


class TemplateLimitError(TemplateError):
    """A template takes more time or memory than any conversation needs."""


class RenderingInterrupt(KeyboardInterrupt):
    """Ctrl-C was pressed while a template was rendered."""


def render_chat(
    tokenizer: Any,
    source: str,
    messages: Sequence[dict[str, str]],
    *,
    add_generation_prompt: bool = False,
    **options: Any,
) -> str:
    """Return a conversation rendered with a chat template.

    The text is that of ``tokenizer.apply_chat_template(tokenize=False)`` of transformers or mlx-lm.

    Args:
        tokenizer: gives the special tokens (``bos_token`` …), and whether the model can think.
        source: the template, in Jinja.
        messages: the conversation, each message with ``role`` and ``content``.
        add_generation_prompt: whether the text ends with the beginning of an answer.
        options: further variables, such as ``enable_thinking``.

    Raises:
        TemplateError: the template is wrong or refuses the messages.
        TemplateLimitError: it takes too much time or memory, or its output is too long.

    Example:
        >>> render_chat(tokenizer, source, [{"role": "user", "content": "Hi"}])
    """
    thinks = getattr(tokenizer, "has_thinking", None)  # of mlx-lm's wrapper
    variables = {
        **tokenizer.special_tokens_map,
        **({} if thinks is None else {"enable_thinking": thinks}),
        **options,
        "messages": list(messages),
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
    }
    return _render(source, variables, keep_trailing_newline=False)


def render_text(source: str, **variables: Any) -> str:
    """Return a base template rendered with its variables; its last line break is kept.

    Args:
        source: the template, in Jinja.
        variables: what it may use.

    Raises:
        TemplateError: as :func:`render_chat`.
    """
    return _render(source, variables, keep_trailing_newline=True)


def start() -> None:
    """Start the child process early, so that it is ready for the first template."""
    _process().start()


@cache
def _process() -> LimitedProcess:
    """Return the child process of this program; it starts lazily."""
    found = [find_spec(name) for name in ("jinja2", "markupsafe")]
    folders = {str(Path(spec.origin).parents[1]): None for spec in found if spec and spec.origin}
    process = LimitedProcess([sys.executable, "-I", "-S", str(CHILD), *folders], CHILD.parent)
    atexit.register(process.stop)
    return process


def _render(source: str, variables: dict[str, Any], keep_trailing_newline: bool) -> str:
    request = {
        "source": source,
        "variables": variables,
        "keep_trailing_newline": keep_trailing_newline,
        "cpu_s": LIMITS.cpu_s,
        "memory": LIMITS.memory,
        "characters": LIMITS.characters,
    }
    reply = json.loads(_ask(json.dumps(request).encode() + b"\n").decode("utf-8", "surrogatepass"))
    if "limit" in reply:
        raise TemplateLimitError(reply["limit"])
    if "error" in reply:
        raise TemplateError(reply["error"])
    text: str = reply["text"]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateError("it writes half of a surrogate pair, which is not text") from None
    return text


def _ask(line: bytes) -> bytes:
    try:
        return _process().ask(
            line,
            wall_s=LIMITS.wall_s,
            memory=LIMITS.memory,
            reply_bytes=7 * LIMITS.characters + _LONGEST_REFUSAL,
        )
    except KeyboardInterrupt:
        raise RenderingInterrupt from None
    except ProcessLimitError as error:
        raise TemplateLimitError(str(error)) from None
    except ProcessDiedError as error:
        if error.code == -signal.SIGPROF:
            raise TemplateLimitError(f"it takes more than {LIMITS.cpu_s:g} s") from None
        raise TemplateLimitError(f"the process that renders it {_ended(error.code)}") from None


def _ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
