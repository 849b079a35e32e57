"""The interface of a method, a gate and a target distribution, and the inputs of both.

The *gate* depends on the base alone and decides whether the guide is asked at a position. The
*target* is the distribution over the base's vocabulary from which the next token is taken: its
top token in greedy decoding, a draw when sampling.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

from ..backend.mlx import mx


class View(NamedTuple):
    """The base's distribution at ``[...]`` positions."""

    probs: mx.array  # [..., V], the STOP class pooled
    confidence: mx.array  # [...], p̂_b
    token: mx.array  # [...], the base's top token


class Advice(NamedTuple):
    """The guide's distribution at the same positions, carried to the base's vocabulary.

    Where several guides are asked, the base's vocabulary is the mixture's own.
    """

    probs: mx.array  # [..., V] over the base's vocabulary
    confidence: mx.array  # [...], p̂_g, over the guide's own vocabulary
    token: mx.array  # [...], t_g, an id of the guide
    counterpart: mx.array  # [...], φ(t_g), an id of the base, or V where t_g has none
    exact_mass: mx.array  # [...], mass that went by exact match
    prefix_mass: mx.array  # [...], mass that went by the longest prefix
    stop_prob: mx.array  # [...], P_g(STOP)
    reference_probs: mx.array | None = None  # [..., V], P_a, where a method needs it
    own_probs: mx.array | None = None  # [..., V_g], P_g over the guide's own vocabulary
    votes: tuple[Advice, ...] = ()  # of several guides, what each of them says

    def as_view(self) -> View:
        """Return what stands for the base where a method does not need it."""
        return View(self.probs, self.confidence, self.token)


class Target(NamedTuple):
    """The distribution that decides, and the guide's weight in it."""

    probs: mx.array  # [..., V]
    alpha: mx.array  # [...]


class Method(Protocol):
    """A gate and a target distribution (see the module's docstring).

    A subclass needs a name, :meth:`unsure` and :meth:`target`; the rest says what can be spared.
    """

    name: ClassVar[str]

    @property
    def needs_reference(self) -> bool:
        """True if the target needs the guide's unaligned twin."""
        return False

    @property
    def asks(self) -> bool:
        """True if the guide can be asked at all with these options."""
        return True

    @property
    def needs_base(self) -> bool:
        """True if the target depends on the base's distribution."""
        return True

    def always_asks(self, greedy: bool) -> bool:
        """Return whether the gate is open whatever the base says.

        Args:
            greedy: as for :meth:`unsure`.
        """
        return False

    def unsure(self, view: View, greedy: bool) -> mx.array:
        """Return the gate: ``[...]`` booleans, true where the guide must be asked.

        Args:
            view: the base's distribution.
            greedy: true if the target's top token is taken, not a draw from it.
        """

    def gate_margin(self, view: View) -> mx.array | None:
        """Return the distance to the gate ``[...]``, negative where it is open; None without a τ.

        Args:
            view: the base's distribution.
        """
        return None

    def target(self, base: View, aligned: Advice) -> Target:
        """Return the distribution that decides where the gate is open.

        Args:
            base: the base's distribution; anything of its shape if :attr:`needs_base` is False.
            aligned: the guide's distribution.
        """


def check_range(option: str, value: float, low: float, high: float) -> None:
    """Check the value of an option.

    Raises:
        ValueError: it is below ``low`` or above ``high``; the message names all of them.
    """
    if not (low <= value <= high):  # NaN fails too
        raise ValueError(f"{option} must be between {low:g} and {high:g}, not {value:g}")
