"""How long passes and steps take: what the programs here share."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Seconds spent in the forward passes of the models that it watches."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def watching(self, *models: Any) -> Iterator[None]:
        """Within this, every pass of these models is evaluated at once and timed."""
        networks = [model.network for model in models]
        for model in models:
            model.network = Timed(model.network, self)
        try:
            yield
        finally:
            for model, network in zip(models, networks, strict=True):
                model.network = network


class Timed:
    """A network whose passes are evaluated at once and timed."""

    def __init__(self, network: Any, clock: Clock) -> None:
        self._network = network
        self._clock = clock

    def __call__(self, ids: Any, cache: Any = None) -> Any:
        from blendin_mlx.backend.mlx import mx

        started = time.perf_counter()
        logits = self._network(ids, cache=cache)
        mx.eval(logits)
        self._clock.seconds += time.perf_counter() - started
        return logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def overhead(pair: Any, prompt: Any, **options: Any) -> float:
    """What the steps of an answer take beyond forward passes, as a share of these."""
    from blendin_mlx.generation import stream_generate

    clock = Clock()
    models = [pair.base] if pair.base is pair.aligned else [pair.base, pair.aligned]
    wall = forward = 0.0
    with clock.watching(*models):
        responses = stream_generate(pair, prompt, **options)
        next(responses)  # the first step reads prompts
        started, before = time.perf_counter(), clock.seconds
        for _ in responses:
            pass
        wall, forward = time.perf_counter() - started, clock.seconds - before
    return (wall - forward) / forward


def machine() -> str:
    """The machine and the versions, in a line."""
    from blendin_mlx.backend import mlx

    versions = " ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in ("blendin-mlx", "mlx", "mlx-lm")
    )
    place = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    where = "CPU" if mlx.is_cpu() else "GPU"
    return f"{place}, MLX on the {where}, BLAS {mlx.BLAS.name}; {versions}"
