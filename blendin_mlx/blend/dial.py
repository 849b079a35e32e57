"""A method turned down, from the base alone to what the method says, or with tempered models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..backend.mlx import mx
from . import formulas
from .method import Advice, Method, Target, View, check_range

COLDEST, HOTTEST = 0.01, 100.0  # temperatures beyond which float32 cannot follow a logit


@dataclass(frozen=True)
class Dialled(Method):
    """A method whose target is mixed with the base's distribution; its gate is unchanged.

    Args:
        method: what is turned down.
        dial: 0 is the base alone, 1 the method as it is; scales α where the method mixes.
        guide_temp: temperature of all that the guide says; above 1 it is less sure.
        temper: temperature of both models before the method sees them, gate and target alike, as
            Hammal et al. (arXiv 2604.16146) have it; the guide's is ``temper · guide_temp``.
            Whoever makes distributions from logits applies the temperatures.

    Raises:
        ValueError: a dial or a temperature out of range.

    Example:
        >>> Dialled(make_method("nudging"), 0.5)   # half of the guide's wish
    """

    name: ClassVar[str] = "dialled"
    method: Method
    dial: float = 1.0
    guide_temp: float = 1.0
    temper: float = 1.0

    def __post_init__(self) -> None:
        check_range("dial", self.dial, 0.0, 1.0)
        check_range("guide_temp", self.guide_temp, COLDEST, HOTTEST)
        check_range("temper", self.temper, COLDEST, HOTTEST)
        check_range("guide_temp · temper", self.guide_temp * self.temper, COLDEST, HOTTEST)

    @property
    def needs_reference(self) -> bool:
        """True if the method needs the guide's unaligned twin."""
        return self.method.needs_reference

    @property
    def needs_base(self) -> bool:
        """True if the base has a part in the target."""
        return self.dial < 1.0 or self.method.needs_base

    @property
    def asks(self) -> bool:
        """True if the guide can be asked at all."""
        return self.dial > 0.0 and self.method.asks

    def always_asks(self, greedy: bool) -> bool:
        """Return whether the method's gate is always open."""
        return self.asks and self.method.always_asks(greedy)

    def unsure(self, view: View, greedy: bool) -> mx.array:
        """Return the method's gate."""
        return self.method.unsure(view, greedy)

    def gate_margin(self, view: View) -> mx.array | None:
        """Return the distance to the method's gate."""
        return self.method.gate_margin(view)

    def target(self, base: View, aligned: Advice) -> Target:
        """Return the method's target, mixed with the base."""
        whole = self.method.target(base, aligned)
        if self.dial == 1.0:
            return whole
        weight = mx.full(base.confidence.shape, self.dial)
        return Target(formulas.blend(base.probs, whole.probs, weight), self.dial * whole.alpha)


def base_temperature(method: Method) -> float:
    """Return the temperature at which a method wants the base."""
    return method.temper if isinstance(method, Dialled) else 1.0


def guide_temperature(method: Method) -> float:
    """Return the temperature at which a method wants the guide."""
    return method.temper * method.guide_temp if isinstance(method, Dialled) else 1.0
