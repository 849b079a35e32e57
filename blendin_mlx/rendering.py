"""Chat templates are programs of a stranger: they are rendered with bounded time and memory.

A template runs in jinja's sandbox, which keeps it from files and from Python's insides, but not
from looping for ever or from filling the memory.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

LONGEST_S = 5.0
MOST_BYTES = 512 * 1024 * 1024  # besides what the process has already
MOST_CHARACTERS = 20_000_000


class TemplateLimitError(ValueError):
    """A template took more time or memory than any conversation needs."""


def render(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> str:
    """The text that a tokenizer's chat template makes of a conversation.

    Raises:
        TemplateLimitError: it takes too long, too much memory, or writes too much.
        Exception: whatever the template raises.

    Example:
        >>> render(tokenizer, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    """
    try:
        with _time_bounded(LONGEST_S), _memory_bounded(MOST_BYTES):
            text: str = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except MemoryError:
        raise TemplateLimitError("it takes too much memory") from None
    if len(text) > MOST_CHARACTERS:
        raise TemplateLimitError(f"it writes {len(text)} characters")
    return text


@contextmanager
def _time_bounded(seconds: float) -> Iterator[None]:
    """Within this, Python code of this thread that runs longer is broken off.

    A trace function looks at the clock at every line; a signal would need the main thread.
    """
    deadline = time.monotonic() + seconds

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > deadline:
            raise TemplateLimitError(f"it takes more than {seconds:g} s")
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _memory_bounded(more: int) -> Iterator[None]:
    """Within this, the process can grow by so much only, where the system can tell its size."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + more if soft == resource.RLIM_INFINITY else min(soft, used + more)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
