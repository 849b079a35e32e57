"""A method turned down, from the base alone to what the method says, or with a tempered guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..backend.mlx import mx
from . import formulas
from .method import Advice, Method, Target, View

COLDEST, HOTTEST = 0.01, 100.0  # temperatures beyond which float32 cannot follow a logit


@dataclass(frozen=True)
class Dialled:
    """A method whose target is mixed with the base's distribution; its gate is unchanged.

    Args:
        method: what is turned down.
        dial: 0 is the base alone, 1 the method as it is; scales α where the method mixes.
        guide_temp: temperature of all that the guide says; above 1 it is less sure. Whoever makes
            the guide's advice applies it.

    Raises:
        ValueError: a dial or a temperature out of range.

    Example:
        >>> Dialled(make_method("nudging"), 0.5)   # half of the guide's wish
    """

    name: ClassVar[str] = "dialled"
    method: Method
    dial: float = 1.0
    guide_temp: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.dial <= 1.0:
            raise ValueError(f"dial must be between 0 and 1, not {self.dial:g}")
        if not COLDEST <= self.guide_temp <= HOTTEST:
            raise ValueError(
                f"guide_temp must be between {COLDEST:g} and {HOTTEST:g}, not {self.guide_temp:g}"
            )

    @property
    def needs_reference(self) -> bool:
        """True if the method needs the guide's unaligned twin."""
        return self.method.needs_reference

    @property
    def needs_base(self) -> bool:
        """True if the base has a part in the target."""
        return self.dial < 1.0 or self.method.needs_base

    @property
    def tau(self) -> float | None:
        """The method's τ, None if it has none."""
        return getattr(self.method, "tau", None)

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

    def target(self, base: View, aligned: Advice) -> Target:
        """Return the method's target, mixed with the base."""
        whole = self.method.target(base, aligned)
        if self.dial == 1.0:
            return whole
        weight = mx.full(base.confidence.shape, self.dial)
        return Target(formulas.blend(base.probs, whole.probs, weight), self.dial * whole.alpha)


def guide_temperature(method: Method) -> float:
    """Return the temperature at which a method wants the guide."""
    return method.guide_temp if isinstance(method, Dialled) else 1.0
