"""``blendin_cli`` is a program: it exports nothing, so that all of it may change."""

from __future__ import annotations

import blendin_cli


def test_blendin_cli_exports_nothing() -> None:
    assert blendin_cli.__all__ == []
