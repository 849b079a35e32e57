"""Find, fetch, import and load models: `blendin_models`, imported from the folder ``models/``.

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
