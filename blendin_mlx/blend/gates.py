"""When a method asks the guide: always, where the base is unsure, or where the guide matters.

The base is unsure where a number from 0 to 1, its *sureness*, is below the threshold τ.

Sources: the confidence is that of BlendIn (arXiv 2606.11201) and Nudging (arXiv 2410.09300); the
entropy that of Entropy Adaptive Decoding (Simonds, arXiv 2502.06833), of one position; the margin
that of CALM (Schuster et al., NeurIPS 2022, arXiv 2207.07061), its softmax measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..backend.mlx import mx
from . import formulas
from .method import Method, View, check_range

# How sure the base is, of a view [...]; over k equally likely tokens the first two are 1/k. An
# entropy of h nats is a sureness of e^−h, one of b bits 2^−b. None is above the confidence.
GATES: Mapping[str, Callable[[View], mx.array]] = {
    "confidence": lambda view: view.confidence,
    "entropy": lambda view: mx.exp(-formulas.entropy(view.probs)),
    "margin": lambda view: formulas.gap(view.probs, view.token),
}


@dataclass(frozen=True)
class Always(Method):
    """A method that asks at every position."""

    def always_asks(self, greedy: bool) -> bool:
        return self.asks

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return mx.ones(view.confidence.shape, dtype=mx.bool_)


@dataclass(frozen=True)
class Gated(Method):
    """A method that asks where the base is less sure than τ; with ``tau`` 0 it never asks.

    ``gate`` is a key of :data:`GATES` and says which sureness is meant.
    """

    tau: float = 0.4
    gate: str = field(default="confidence", kw_only=True)

    def __post_init__(self) -> None:
        check_range("tau", self.tau, 0.0, 1.0)
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {', '.join(GATES)}, not {self.gate!r}")

    @property
    def asks(self) -> bool:
        return self.tau > 0.0

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return GATES[self.gate](view) < self.tau

    def gate_margin(self, view: View) -> mx.array:
        return GATES[self.gate](view) - self.tau


@dataclass(frozen=True)
class WhereItMatters(Method):
    """A method that asks, in greedy decoding, only where some guide could change the winner."""

    def always_asks(self, greedy: bool) -> bool:
        return self.asks and not greedy

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return self._matters(view) if greedy else mx.full(view.confidence.shape, self.asks)

    def _matters(self, view: View) -> mx.array:
        raise NotImplementedError
