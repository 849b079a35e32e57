"""Guided decoding: a base model writes, an aligned model is asked where the base is unsure.

    >>> from blendin_mlx import generate
    >>> from blendin_models import load_pair
    >>> print(generate(load_pair("demo"), "How do I boil an egg?"))

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blend.methods import METHODS, make_method
    from .decoding.answer_stream import Response
    from .decoding.json_constraint import JsonConstraint
    from .drafting.drafter import Drafter
    from .drafting.pass_costs import Costs, measure
    from .errors import (
        BlendinError,
        NumericalError,
        PairError,
        PromptCacheError,
        PromptError,
        SchemaError,
    )
    from .generation import generate, read_beginning, stream_generate
    from .model import LanguageModel, Pair
    from .prompt_cache import PromptCache, load_prompt_cache, make_prompt_cache, save_prompt_cache
    from .prompts import BASE_TEMPLATES, BaseTemplate, PairPrompt, build_prompt
    from .step import Candidate, Step

_HOMES = {
    "decoding.answer_stream": ("Response",),
    "prompt_cache": ("PromptCache", "load_prompt_cache", "make_prompt_cache", "save_prompt_cache"),
    "decoding.json_constraint": ("JsonConstraint",),
    "drafting.pass_costs": ("Costs", "measure"),
    "errors": (
        *("BlendinError", "NumericalError", "PairError", "PromptCacheError", "PromptError"),
        "SchemaError",
    ),
    "generation": ("generate", "read_beginning", "stream_generate"),
    "blend.methods": ("METHODS", "make_method"),
    "model": ("LanguageModel", "Pair"),
    "prompts": ("BASE_TEMPLATES", "BaseTemplate", "PairPrompt", "build_prompt"),
    "drafting.drafter": ("Drafter",),
    "step": ("Candidate", "Step"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BASE_TEMPLATES",
    "METHODS",
    "BaseTemplate",
    "BlendinError",
    "Candidate",
    "Costs",
    "Drafter",
    "JsonConstraint",
    "LanguageModel",
    "NumericalError",
    "Pair",
    "PairError",
    "PairPrompt",
    "PromptCache",
    "PromptCacheError",
    "PromptError",
    "Response",
    "SchemaError",
    "Step",
    "build_prompt",
    "generate",
    "load_prompt_cache",
    "make_method",
    "make_prompt_cache",
    "measure",
    "read_beginning",
    "save_prompt_cache",
    "stream_generate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
