"""From a distribution to a token: its top one, or a draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..backend.mlx import mx

Sampler = Callable[[mx.array], mx.array]
LogitsProcessor = Callable[[mx.array, mx.array], mx.array]


class Chooser:
    """Takes the next token from the distribution that decides.

    Args:
        sampler: log-probabilities ``[1, V]`` → ids ``[1]``, as from
            ``mlx_lm.sample_utils.make_sampler``; None for greedy decoding.
        processors: as from ``mlx_lm.sample_utils.make_logits_processors``; they see the tokens so
            far and the logits of the distribution.

    A penalty means something else for a logit above 0 than for one below, so processors need
    logits. Those of a distribution ``r`` are ``log r + log Σ exp(ℓ_b)`` with the base's logits
    ``ℓ_b``: where the base decides, or the guide's weight is 0, they are ``ℓ_b`` itself, and
    processors do what they do in mlx-lm. A blend is on the same scale.

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
        """Whether the choice is always the top token."""
        return self._sampler is None and not self._processors

    def choose(
        self, probs: mx.array, tokens: Sequence[int], level: mx.array | float = 0.0
    ) -> mx.array:
        """Return ids ``[1]`` from a distribution ``[1, V]`` after ``tokens``, lazily.

        Args:
            level: ``log Σ exp`` of the base's logits, ``[1, 1]``; only processors look at it.
        """
        if self.is_greedy:
            return mx.argmax(probs, axis=-1)
        scores = mx.log(probs) + level
        for processor in self._processors:
            scores = processor(mx.array(list(tokens), dtype=mx.int32), scores)
        scores = scores - mx.logsumexp(scores, axis=-1, keepdims=True)
        return mx.argmax(scores, axis=-1) if self._sampler is None else self._sampler(scores)
