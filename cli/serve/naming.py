"""The names under which the pair is offered: itself, and once for each method."""

from __future__ import annotations

import time
from typing import Any

from .errors import ApiError


class ModelNames:
    """The model ids of a pair: ``demo``, ``demo:nudging``, ``demo:base`` and so on.

    Args:
        name: the pair's own.
        methods: those that it can be decoded with.
        default: the one that the bare name stands for.

    Example:
        >>> ModelNames("demo", ["base", "blendin"], "blendin").method("demo:base")
        'base'
    """

    def __init__(self, name: str, methods: list[str], default: str) -> None:
        self.name = name
        self._methods = {name: default, **{f"{name}:{method}": method for method in methods}}
        self._created = int(time.time())

    def method(self, model: str) -> str:
        """Return the method that a model id stands for.

        Raises:
            ApiError: 404, there is no such model.
        """
        if model not in self._methods:
            known = ", ".join(self._methods)
            message = f"there is no model {model[:80]!r} here; the models are {known}"
            raise ApiError(404, message, "model", "model_not_found")
        return self._methods[model]

    def entry(self, model: str) -> dict[str, Any]:
        """Return what ``GET /v1/models/{id}`` says of a model."""
        self.method(model)
        return {"id": model, "object": "model", "created": self._created, "owned_by": "blendin"}

    def listing(self) -> dict[str, Any]:
        """Return what ``GET /v1/models`` says."""
        return {"object": "list", "data": [self.entry(model) for model in self._methods]}
