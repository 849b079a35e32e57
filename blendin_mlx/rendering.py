"""Chat templates are programs of a stranger: they are rendered with bounded time and memory.

A template runs in jinja's sandbox, which keeps it from files and from Python's insides, but not
from looping for ever or from filling the memory; nor from single steps that never end, which
:mod:`.sandbox` bounds.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

LONGEST_S = 5.0
MOST_BYTES = 512 * 1024 * 1024  # besides what the process has already
MOST_CHARACTERS = 20_000_000


# One template at a time: what is watched, limited and replaced meanwhile is the whole process's.
LOCK = threading.Lock()


def render(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> str:
    """The text that a tokenizer's chat template makes of a conversation.

    Raises:
        ValueError: it takes too long, too much memory, or writes too much.
        Exception: whatever the template raises.

    Example:
        >>> render(tokenizer, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    """
    from .sandbox import TemplateLimitError

    try:
        with LOCK, _sandboxed(), _time_bounded(LONGEST_S), _memory_bounded(MOST_BYTES):
            text: str = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except MemoryError:
        raise TemplateLimitError("it takes too much memory") from None
    except RecursionError:
        raise TemplateLimitError("it nests too deeply") from None
    except (LookupError, AttributeError, SyntaxError) as error:  # blocks nest too deeply for Python
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if len(text) > MOST_CHARACTERS:
        raise TemplateLimitError(f"it writes {len(text)} characters")
    return text


@contextmanager
def _sandboxed() -> Iterator[None]:
    """Within this, transformers takes chat templates from the bounded sandbox."""
    from transformers.utils import chat_template_utils as theirs

    _environment()
    compiled, theirs._compile_jinja_template = theirs._compile_jinja_template, _compiled
    try:
        yield
    finally:
        theirs._compile_jinja_template = compiled


@lru_cache
def _compiled(source: str) -> Any:
    return _environment().from_string(source)


@lru_cache
def _environment() -> Any:
    """The environment that transformers makes for chat templates, with its sandbox bounded."""
    from transformers.utils import chat_template_utils as theirs

    from .sandbox import BoundedSandbox

    environment = theirs._compile_jinja_template("").environment
    environment.__class__ = BoundedSandbox
    environment.bound()
    return environment


@contextmanager
def _time_bounded(seconds: float) -> Iterator[None]:
    """Within this, Python code of this thread that runs longer is broken off.

    A trace function looks at the clock at every line; a signal would need the main thread.
    """
    from . import sandbox

    deadline = time.monotonic() + seconds

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > deadline:
            raise sandbox.TemplateLimitError(f"it takes more than {seconds:g} s")
        return None if frame.f_code is sandbox.weighed.__code__ else watch  # that is bounded itself

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
