"""A method with the guide's weight turned down: from the base alone to what the method says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..backend.mlx import mx
from . import formulas
from .method import Advice, Method, Target, View


@dataclass(frozen=True)
class Dialled:
    """The same gate; between the base's distribution and the method's target.

    Args:
        method: what is turned down.
        dial: 0 is the base alone, 1 the method as it is.

    Raises:
        ValueError: a dial out of range.

    Example:
        >>> Dialled(make_method("nudging"), 0.5)   # half of the guide's wish
    """

    name: ClassVar[str] = "dialled"
    method: Method
    dial: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.dial <= 1.0:
            raise ValueError(f"dial must be between 0 and 1, not {self.dial:g}")

    @property
    def needs_reference(self) -> bool:
        """As the method."""
        return self.method.needs_reference

    @property
    def tau(self) -> float | None:
        """The method's own."""
        return getattr(self.method, "tau", None)

    @property
    def asks(self) -> bool:
        """Whether the guide can be asked at all."""
        return self.dial > 0.0 and self.method.asks

    def unsure(self, view: View, greedy: bool) -> mx.array:
        """The method's gate."""
        return self.method.unsure(view, greedy)

    def target(self, base: View, aligned: Advice) -> Target:
        """The method's target, mixed with the base."""
        whole = self.method.target(base, aligned)
        weight = mx.full(base.confidence.shape, self.dial)
        return Target(formulas.blend(base.probs, whole.probs, weight), self.dial * whole.alpha)
