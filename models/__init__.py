"""Where models come from: names, catalogue, fetching, import, loading.

>>> from blendin_models import load_pair
>>> pair = load_pair("demo")
"""

from __future__ import annotations

from .errors import ModelError
from .resolve import load_pair, locate

__all__ = ["ModelError", "load_pair", "locate"]
