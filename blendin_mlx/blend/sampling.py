"""The choice of a token from a distribution: the top one, or a draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..backend.mlx import mx

Sampler = Callable[[mx.array], mx.array]
LogitsProcessor = Callable[[mx.array, mx.array], mx.array]
_MILDEST_PENALTY = 1e-6  # smaller ones make logits infinite


def repetition_penalty(penalty: float | None, context_size: int) -> list[LogitsProcessor]:
    """Return mlx-lm's repetition penalty as processors; none if ``penalty`` is None or 0.

    Args:
        penalty: divides the logit of a repeated token if it is above 0, else multiplies it.
        context_size: how many of the last tokens count as said.
    """
    from mlx_lm.sample_utils import make_logits_processors

    made: list[LogitsProcessor] = make_logits_processors(
        repetition_penalty=penalty and max(penalty, _MILDEST_PENALTY),
        repetition_context_size=context_size,
    )
    return made


class Chooser:
    """The choice of the next token from the distribution that decides.

    Args:
        sampler: log-probabilities ``[1, V]`` → ids ``[1]``, as from
            ``mlx_lm.sample_utils.make_sampler``; None for greedy decoding.
        processors: as from ``mlx_lm.sample_utils.make_logits_processors``; they get the tokens so
            far and the logits of the distribution.

    A penalty treats logits above 0 and below 0 differently, so processors need logits. Those of a
    distribution ``r`` are ``log r + log Σ exp(ℓ_b)`` with the base's logits ``ℓ_b``: where the base
    decides, or the guide's weight is 0, they are ``ℓ_b`` itself, and processors work as in mlx-lm.
    The logits of a blend are on the same scale.

    Example:
        >>> Chooser(make_sampler(temp=0.7, top_p=0.9))
    """

    def __init__(
        self, sampler: Sampler | None = None, processors: Sequence[LogitsProcessor] = ()
    ) -> None:
        self._sampler = sampler
        self._processors = tuple(processors)

    @property
    def is_greedy(self) -> bool:
        """True if the choice is always the top token."""
        return self._sampler is None and not self._processors

    @property
    def needs_level(self) -> bool:
        """True if the choice depends on the scale of the base's logits."""
        return bool(self._processors)

    def choose(
        self, probs: mx.array, tokens: Sequence[int], level: mx.array | float = 0.0
    ) -> mx.array:
        """Return ids ``[1]`` from a distribution ``[1, V]`` after ``tokens``, lazily.

        Args:
            probs: the distribution that decides.
            tokens: prompt and answer so far, in ids of the base.
            level: ``log Σ exp`` of the base's logits, ``[1, 1]``; only processors need it.
        """
        if self.is_greedy:
            return mx.argmax(probs, axis=-1)
        scores = self.scores(probs, tokens, level)
        return mx.argmax(scores, axis=-1) if self._sampler is None else self._sampler(scores)

    def scores(
        self, probs: mx.array, tokens: Sequence[int], level: mx.array | float = 0.0
    ) -> mx.array:
        """Return the log-probabilities ``[1, V]`` of a distribution after the processors.

        Args:
            probs: ``[1, V]``.
            tokens: as for :meth:`choose`.
            level: as for :meth:`choose`.
        """
        scores = mx.log(probs) + level
        for processor in self._processors:
            scores = processor(mx.array(list(tokens), dtype=mx.int32), scores)
        return scores - mx.logsumexp(scores, axis=-1, keepdims=True)
