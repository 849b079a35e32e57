"""How files come from the hub: over which route, and how their bytes are counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .packages import Progress


@contextmanager
def plain_http() -> Iterator[None]:
    """Within this, files come over plain HTTP, unless the user has set ``HF_HUB_DISABLE_XET``.

    The hub serves its chunked storage (xet) over either; the one that the tests know, with all that
    can go wrong there, is the one that runs.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    if "HF_HUB_DISABLE_XET" not in os.environ:
        constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def counted(
    progress: Progress | None, what: str, start: int, end: int, total: int
) -> Callable[[int], None]:
    """What is called with the bytes that are here of one file."""

    def count(here: int) -> None:
        if progress:
            progress(what, min(start + here, end), total)

    return count


def bar(count: Callable[[int], None]) -> Any:
    """A progress bar for huggingface_hub that shows nothing and counts the bytes of a file."""

    class Bar:
        def __init__(self, *_: object, **about: Any) -> None:
            self.n = about.get("initial") or 0

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def update(self, n: int) -> None:
            self.n += n
            count(self.n)

        def update_transfer(self, n: int) -> None:
            """What travelled counts once it is a part of the file."""

        def set_postfix_str(self, *_: object, **__: object) -> None:
            """The rate is shown elsewhere."""

        set_transfer_postfix_str = set_postfix_str

    return Bar
