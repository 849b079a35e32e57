"""Find, fetch, import and load models: `blendin_models`, imported from the folder ``models/``.

>>> from blendin_models import load_pair
>>> pair = load_pair("demo")
"""

from __future__ import annotations

from .errors import ModelError
from .fetching.resolve import locate
from .pair import load_pair

__all__ = ["ModelError", "load_pair", "locate"]
