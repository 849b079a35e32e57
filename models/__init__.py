"""Where models come from: names, catalogue, fetching, import, loading.

>>> from blendin_models import load_pair
>>> pair = load_pair("demo")
"""

from __future__ import annotations

from .errors import MemoryNeededError, ModelError, UnsuitableError
from .fetching.resolve import locate
from .pair import PairSpec, load_pair, load_spec
from .progress import Progress
from .storage.local_model import LocalModel

__all__ = [
    "LocalModel",
    "MemoryNeededError",
    "ModelError",
    "PairSpec",
    "Progress",
    "UnsuitableError",
    "load_pair",
    "load_spec",
    "locate",
]
