"""``python -m blendin_cli``."""

from __future__ import annotations

from .main import main

main()
