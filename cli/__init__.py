"""The ``blendin`` command: all that faces a user. It is a program; programs import the others."""

from __future__ import annotations

__all__: list[str] = []
