"""The registry of methods: each is a gate and a target distribution.

Sources: BlendIn (arXiv 2606.11201) for ``blendin`` and ``fixed``, Nudging (arXiv 2410.09300) for
``nudging``, Hammal et al. (arXiv 2604.16146) for ``kad``, ``kad-primal`` and ``confidence-bet``,
Liu et al. (2024) for ``proxy-tuning``, Li et al. (arXiv 2210.15097) and O'Brien and Lewis
(arXiv 2309.09117) for ``contrastive``. Those of the gates are in :mod:`.gates`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..backend.mlx import mx
from . import formulas
from .gates import Always, Gated, WhereItMatters
from .method import Advice, Method, Target, View, check_range

_MOST_BETA = 100.0  # beyond it float32 cannot hold the shift


@dataclass(frozen=True)
class Base(Method):
    """The base alone: the guide is never asked."""

    name: ClassVar[str] = "base"
    asks: ClassVar[bool] = False

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return mx.zeros(view.confidence.shape, dtype=mx.bool_)

    def target(self, base: View, aligned: Advice) -> Target:
        return Target(base.probs, mx.zeros(base.confidence.shape))


@dataclass(frozen=True)
class Aligned(Always):
    """The guide alone, written in the base's vocabulary."""

    name: ClassVar[str] = "aligned"
    needs_base: ClassVar[bool] = False

    def target(self, base: View, aligned: Advice) -> Target:
        return Target(aligned.probs, mx.ones(base.confidence.shape))


@dataclass(frozen=True)
class BlendIn(Gated):
    """Both distributions mixed in proportion to their confidence at this position.

    ``lambda_`` is the agreement bonus ``λ`` of :func:`.formulas.blend_weight`; other methods use
    the letter for something else.
    """

    name: ClassVar[str] = "blendin"
    lambda_: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("lambda", self.lambda_, 0.0, math.inf)

    def target(self, base: View, aligned: Advice) -> Target:
        alpha = formulas.blend_weight(
            base.confidence, aligned.confidence, _agreement(base, aligned), self.lambda_
        )
        return Target(formulas.blend(base.probs, aligned.probs, alpha), alpha)


@dataclass(frozen=True)
class Fixed(Gated):
    """The blend with a constant weight."""

    name: ClassVar[str] = "fixed"
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("alpha", self.alpha, 0.0, 1.0)

    def target(self, base: View, aligned: Advice) -> Target:
        alpha = mx.full(base.confidence.shape, self.alpha)
        return Target(formulas.blend(base.probs, aligned.probs, alpha), alpha)


@dataclass(frozen=True)
class Nudging(Gated):
    """The guide's distribution replaces the base's wherever the base is unsure."""

    name: ClassVar[str] = "nudging"

    def target(self, base: View, aligned: Advice) -> Target:
        return Target(aligned.probs, mx.ones(base.confidence.shape))


@dataclass(frozen=True)
class Ensemble(Always):
    """The mean of both distributions."""

    name: ClassVar[str] = "ensemble"

    def target(self, base: View, aligned: Advice) -> Target:
        alpha = mx.full(base.confidence.shape, 0.5)
        return Target(formulas.blend(base.probs, aligned.probs, alpha), alpha)


@dataclass(frozen=True)
class Kad(WhereItMatters):
    """Token-wise deferral: the guide redistributes the mass of base tokens below ``λ``.

    Its weight is that mass. ``lambda_`` is the threshold on ``P_b``, not the ``λ`` of another
    method; with 0 it never asks.
    """

    name: ClassVar[str] = "kad"
    lambda_: float = 0.4

    def __post_init__(self) -> None:
        check_range("lambda", self.lambda_, 0.0, 1.0)

    @property
    def asks(self) -> bool:
        return self.lambda_ > 0.0

    def target(self, base: View, aligned: Advice) -> Target:
        return Target(*formulas.defer(base.probs, aligned.probs, self._limit(base)))

    def _matters(self, view: View) -> mx.array:
        limit = self._limit(view)
        return formulas.deferral_matters(view.probs, view.confidence, view.token, limit)

    def _limit(self, base: View) -> mx.array:
        """Return the probability ``[...]`` below which base tokens are deferred."""
        return mx.full(base.confidence.shape, self.lambda_)


@dataclass(frozen=True)
class KadPrimal(Kad):
    """Deferral by budget: the least likely base tokens are deferred, up to ``λ`` of mass in all.

    ``kad`` bounds the probability of each deferred token, this bounds their sum. With ``λ`` 0 it
    never asks, with 1 the guide decides alone.
    """

    name: ClassVar[str] = "kad-primal"

    def _limit(self, base: View) -> mx.array:
        return formulas.budget_limit(base.probs, self.lambda_)


@dataclass(frozen=True)
class ConfidenceBet(Always):
    """Like ``kad``, with a threshold that follows the guide's confidence: ``p̂_g − λ``.

    ``lambda_`` is that margin, not the ``λ`` of another method; with 1 no threshold is above 0, so
    the guide is never asked.
    """

    name: ClassVar[str] = "confidence-bet"
    lambda_: float = 0.2

    def __post_init__(self) -> None:
        check_range("lambda", self.lambda_, 0.0, 1.0)

    @property
    def asks(self) -> bool:
        return self.lambda_ < 1.0

    def target(self, base: View, aligned: Advice) -> Target:
        limit = aligned.confidence - self.lambda_
        return Target(*formulas.defer(base.probs, aligned.probs, limit))


@dataclass(frozen=True)
class ProxyTuning(Always):
    """The base, shifted by what alignment changed in the guide. With ``beta`` 0 it never asks.

    This is not a mixture; ``alpha`` reports the share of probability mass moved.
    """

    name: ClassVar[str] = "proxy-tuning"
    needs_reference: ClassVar[bool] = True
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_range("beta", self.beta, 0.0, _MOST_BETA)

    @property
    def asks(self) -> bool:
        return self.beta > 0.0

    def target(self, base: View, aligned: Advice) -> Target:
        if aligned.reference_probs is None:
            raise ValueError(f"{self.name} needs the reference model's distribution")
        probs = formulas.shift(base.probs, aligned.probs, aligned.reference_probs, self.beta)
        return Target(probs, formulas.moved(base.probs, probs))


@dataclass(frozen=True)
class Contrastive(WhereItMatters):
    """Contrastive decoding: what the base, the expert, says more surely than the amateur.

    The amateur stands where the guide does; the papers take a small pretrained model for it, which
    reads the expert's own prompt. ``lambda_`` is the share of the top token's probability that a
    token needs (their ``α``), ``beta`` the strength of the contrast; with both 0 it never asks.
    A large ``beta`` ranks the tokens as Li et al. do, by the contrast alone. This is not a mixture;
    ``alpha`` reports the share of probability mass moved.
    """

    name: ClassVar[str] = "contrastive"
    beta: float = 0.5
    lambda_: float = 0.1

    def __post_init__(self) -> None:
        check_range("beta", self.beta, 0.0, _MOST_BETA)
        check_range("lambda", self.lambda_, 0.0, 1.0)

    @property
    def asks(self) -> bool:
        return self.beta > 0.0 or self.lambda_ > 0.0

    def target(self, base: View, aligned: Advice) -> Target:
        probs = formulas.contrast(base.probs, aligned.probs, self.beta, self.lambda_)
        return Target(probs, formulas.moved(base.probs, probs))

    def _matters(self, view: View) -> mx.array:
        return formulas.plausible(view.probs, self.lambda_).sum(axis=-1) > 1


def _agreement(base: View, aligned: Advice) -> mx.array:
    """Return ``P_b(t_g)``; 0 where the guide's top token has no counterpart in the base."""
    size = base.probs.shape[-1]
    index = mx.minimum(aligned.counterpart, size - 1)
    prob = mx.take_along_axis(base.probs, index[..., None], axis=-1)[..., 0]
    return mx.where(aligned.counterpart < size, prob, 0.0)


_ALL: tuple[type[Method], ...] = (
    Base, Aligned, BlendIn, Fixed, Nudging, Ensemble, Kad, KadPrimal, ConfidenceBet, ProxyTuning,
    Contrastive,
)  # fmt: skip
METHODS: Mapping[str, type[Method]] = {method.name: method for method in _ALL}


def make_method(name: str, **options: Any) -> Method:
    """Return the method of a name, with defaults for the options that are not given.

    Args:
        name: a key of :data:`METHODS`.
        options: ``tau``, ``gate``, ``alpha``, ``lambda_``, ``beta``, as the method has them.

    Raises:
        ValueError: an unknown method, an unknown option, or a value out of range.

    Example:
        >>> make_method("blendin", tau=0.3)
        BlendIn(tau=0.3, gate='confidence', lambda_=0.1)
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
