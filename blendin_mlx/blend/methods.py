"""The registry of methods: each is a gate and a target distribution.

Sources: BlendIn (arXiv 2606.11201) for ``blendin`` and ``fixed``, Nudging (arXiv 2410.09300) for
``nudging``, Hammal et al. (arXiv 2604.16146) for ``kad`` and ``confidence-bet``, Liu et al. (2024)
for ``proxy-tuning``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..backend.mlx import mx
from . import formulas
from .method import Advice, Method, Target, View

_MOST_BETA = 100.0  # beyond it float32 cannot hold the shift


def _check_range(option: str, value: float, low: float, high: float) -> None:
    if not (low <= value <= high):  # NaN fails too
        raise ValueError(f"{option} must be between {low:g} and {high:g}, not {value:g}")


@dataclass(frozen=True)
class Base:
    """The base alone: the guide is never asked."""

    name: ClassVar[str] = "base"
    needs_reference: ClassVar[bool] = False
    needs_base: ClassVar[bool] = True
    asks: ClassVar[bool] = False

    def always_asks(self, greedy: bool) -> bool:
        return False

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return mx.zeros(view.confidence.shape, dtype=mx.bool_)

    def target(self, base: View, aligned: Advice) -> Target:
        return Target(base.probs, mx.zeros(base.confidence.shape))


@dataclass(frozen=True)
class _Always:
    """A method that asks at every position."""

    needs_reference: ClassVar[bool] = False
    needs_base: ClassVar[bool] = True

    @property
    def asks(self) -> bool:
        return True

    def always_asks(self, greedy: bool) -> bool:
        return self.asks

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return mx.ones(view.confidence.shape, dtype=mx.bool_)


@dataclass(frozen=True)
class Aligned(_Always):
    """The guide alone, written in the base's vocabulary."""

    name: ClassVar[str] = "aligned"
    needs_base: ClassVar[bool] = False

    def target(self, base: View, aligned: Advice) -> Target:
        return Target(aligned.probs, mx.ones(base.confidence.shape))


@dataclass(frozen=True)
class _Gated:
    """A method that asks where ``p̂_b < τ``. With ``tau`` 0 it never asks."""

    needs_reference: ClassVar[bool] = False
    needs_base: ClassVar[bool] = True
    tau: float = 0.4

    def __post_init__(self) -> None:
        _check_range("tau", self.tau, 0.0, 1.0)

    @property
    def asks(self) -> bool:
        return self.tau > 0.0

    def always_asks(self, greedy: bool) -> bool:
        return False

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return view.confidence < self.tau


@dataclass(frozen=True)
class BlendIn(_Gated):
    """Both distributions mixed in proportion to their confidence at this position.

    ``lambda_`` is the agreement bonus ``λ`` of :func:`.formulas.blend_weight`; other methods use
    the letter for something else.
    """

    name: ClassVar[str] = "blendin"
    lambda_: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("lambda", self.lambda_, 0.0, math.inf)

    def target(self, base: View, aligned: Advice) -> Target:
        alpha = formulas.blend_weight(
            base.confidence, aligned.confidence, _agreement(base, aligned), self.lambda_
        )
        return Target(formulas.blend(base.probs, aligned.probs, alpha), alpha)


@dataclass(frozen=True)
class Fixed(_Gated):
    """The blend with a constant weight."""

    name: ClassVar[str] = "fixed"
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("alpha", self.alpha, 0.0, 1.0)

    def target(self, base: View, aligned: Advice) -> Target:
        alpha = mx.full(base.confidence.shape, self.alpha)
        return Target(formulas.blend(base.probs, aligned.probs, alpha), alpha)


@dataclass(frozen=True)
class Nudging(_Gated):
    """The guide's distribution replaces the base's wherever the base is unsure."""

    name: ClassVar[str] = "nudging"

    def target(self, base: View, aligned: Advice) -> Target:
        return Target(aligned.probs, mx.ones(base.confidence.shape))


@dataclass(frozen=True)
class Ensemble(_Always):
    """The mean of both distributions."""

    name: ClassVar[str] = "ensemble"

    def target(self, base: View, aligned: Advice) -> Target:
        alpha = mx.full(base.confidence.shape, 0.5)
        return Target(formulas.blend(base.probs, aligned.probs, alpha), alpha)


@dataclass(frozen=True)
class Kad:
    """Token-wise deferral: the guide redistributes the mass of base tokens below ``λ``.

    Its weight is that mass. ``lambda_`` is the threshold on ``P_b``, not the ``λ`` of another
    method; with 0 it never asks.
    """

    name: ClassVar[str] = "kad"
    needs_reference: ClassVar[bool] = False
    needs_base: ClassVar[bool] = True
    lambda_: float = 0.4

    def __post_init__(self) -> None:
        _check_range("lambda", self.lambda_, 0.0, 1.0)

    @property
    def asks(self) -> bool:
        return self.lambda_ > 0.0

    def always_asks(self, greedy: bool) -> bool:
        return self.asks and not greedy

    def unsure(self, view: View, greedy: bool) -> mx.array:
        """Return the gate; if greedy, open only where some guide could change the winner."""
        if not greedy:
            return mx.full(view.confidence.shape, self.asks)
        return formulas.deferral_matters(view.probs, view.confidence, view.token, self.lambda_)

    def target(self, base: View, aligned: Advice) -> Target:
        limit = mx.full(base.confidence.shape, self.lambda_)
        return Target(*formulas.defer(base.probs, aligned.probs, limit))


@dataclass(frozen=True)
class ConfidenceBet(_Always):
    """Like ``kad``, with a threshold that follows the guide's confidence: ``p̂_g − λ``.

    ``lambda_`` is that margin, not the ``λ`` of another method; with 1 no threshold is above 0, so
    the guide is never asked.
    """

    name: ClassVar[str] = "confidence-bet"
    lambda_: float = 0.2

    def __post_init__(self) -> None:
        _check_range("lambda", self.lambda_, 0.0, 1.0)

    @property
    def asks(self) -> bool:
        return self.lambda_ < 1.0

    def target(self, base: View, aligned: Advice) -> Target:
        limit = aligned.confidence - self.lambda_
        return Target(*formulas.defer(base.probs, aligned.probs, limit))


@dataclass(frozen=True)
class ProxyTuning(_Always):
    """The base, shifted by what alignment changed in the guide. With ``beta`` 0 it never asks.

    This is not a mixture; ``alpha`` reports the share of probability mass moved.
    """

    name: ClassVar[str] = "proxy-tuning"
    needs_reference: ClassVar[bool] = True
    beta: float = 1.0

    def __post_init__(self) -> None:
        _check_range("beta", self.beta, 0.0, _MOST_BETA)

    @property
    def asks(self) -> bool:
        return self.beta > 0.0

    def target(self, base: View, aligned: Advice) -> Target:
        if aligned.reference_probs is None:
            raise ValueError(f"{self.name} needs the reference model's distribution")
        probs = formulas.shift(base.probs, aligned.probs, aligned.reference_probs, self.beta)
        return Target(probs, formulas.moved(base.probs, probs))


def _agreement(base: View, aligned: Advice) -> mx.array:
    """Return ``P_b(t_g)``; 0 where the guide's top token has no counterpart in the base."""
    size = base.probs.shape[-1]
    index = mx.minimum(aligned.counterpart, size - 1)
    prob = mx.take_along_axis(base.probs, index[..., None], axis=-1)[..., 0]
    return mx.where(aligned.counterpart < size, prob, 0.0)


_ALL: tuple[type[Method], ...] = (
    Base, Aligned, BlendIn, Fixed, Nudging, Ensemble, Kad, ConfidenceBet, ProxyTuning,
)  # fmt: skip
METHODS: Mapping[str, type[Method]] = {method.name: method for method in _ALL}


def make_method(name: str, **options: float) -> Method:
    """Return the method of a name, with defaults for the options that are not given.

    Args:
        name: a key of :data:`METHODS`.
        options: ``tau``, ``alpha``, ``lambda_``, ``beta``, as the method has them.

    Raises:
        ValueError: an unknown method, an unknown option, or a value out of range.

    Example:
        >>> make_method("blendin", tau=0.3)
        BlendIn(tau=0.3, lambda_=0.1)
    """
    known = option_names(name)
    if unknown := sorted(set(options) - known):
        has = ", ".join(sorted(known)) or "no options"
        raise ValueError(f"method {name} has {has}; it does not take {', '.join(unknown)}")
    method: Any = METHODS[name]
    made: Method = method(**options)
    return made


def option_names(name: str) -> set[str]:
    """Return the names of the options that a method takes.

    Raises:
        ValueError: an unknown method.
    """
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {name!r}")
    method: Any = METHODS[name]
    return {field.name for field in fields(method)}
