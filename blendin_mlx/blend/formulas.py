"""The formulas of the method as pure functions on arrays, and nothing else.

Every function works on the last axis and keeps the leading ones, so one call serves a single
position ``[V]`` as well as ``n`` positions scored in one pass ``[n, V]``.

Sources: BlendIn (Gan, Li and Luo, Findings of ACL 2026, arXiv 2606.11201), section on blending;
deferral by token and by budget (Hammal et al., arXiv 2604.16146); proxy-tuning (Liu et al., 2024);
contrastive decoding (Li et al., arXiv 2210.15097; O'Brien and Lewis, arXiv 2309.09117).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..backend.mlx import is_cpu, mx

_ROW = 512
# exp(x) = 2^n · exp(r) with |r| <= ln 2 / 2: Taylor's terms of exp(r), the last one first.
_TERMS = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)
# ln 2 in two parts; the first has so few bits that n times it is exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_SMALLEST = -87.0  # below this exp(x) is not a normal float32; x is clipped here
_BITS_OF_ONE = 0x3F800000  # of the float32 1.0, as an integer
FLOOR = 1e-37  # probabilities are clipped to this before the logarithm
# Share of its probability that an implausible token keeps: invisible in a sum of float32, but it
# ranks these tokens where all plausible ones are barred (an end taken back, a JSON schema).
_TRACE = 1e-20


class Top(NamedTuple):
    """The most probable token of a distribution: its probability and its id, both ``[...]``."""

    prob: mx.array
    token: mx.array


def tempered(logits: mx.array, temperature: float) -> mx.array:
    """Return logits ``[..., V']`` divided by a temperature, in float32; the same ones at 1."""
    return logits if temperature == 1.0 else logits.astype(mx.float32) / temperature


def probabilities(logits: mx.array, size: int) -> mx.array:
    """Return the full softmax at temperature 1 over the first ``size`` logits, in float32.

    Rows of the output layer beyond the tokenizer's vocabulary are padding: they are cut before the
    softmax, so they never take mass.

    Args:
        logits: ``[..., V']`` unscaled, ``V' >= size``.
        size: the size of the vocabulary.

    Returns:
        ``[..., size]``, summing to 1.
    """
    real = logits[..., :size].astype(mx.float32)
    weights = exponential(real - real.max(axis=-1, keepdims=True))
    return weights / total(weights)[..., None]


def level(logits: mx.array, size: int) -> mx.array:
    """Return ``log Σ exp`` of the first ``size`` logits, ``[..., 1]``: logit = log P + level."""
    real = logits[..., :size].astype(mx.float32)
    highest = real.max(axis=-1, keepdims=True)
    return highest + mx.log(total(exponential(real - highest)))[..., None]


def exponential(values: mx.array) -> mx.array:
    """Return ``exp`` of float32 values up to 0, to about one unit in the last place.

    MLX on an x86-64 CPU calls the scalar function of the C library for each element. These few
    operations on whole arrays take less than half of that time: over a large vocabulary they save
    several milliseconds per token.
    """
    if not is_cpu():
        return mx.exp(values)
    values = mx.maximum(values, _SMALLEST)
    n = mx.round(values * math.log2(math.e))
    rest = values - n * _LN2_HIGH - n * _LN2_LOW
    result = mx.array(_TERMS[0])
    for term in _TERMS[1:]:
        result = result * rest + term
    power = (n.astype(mx.int32) + 127) << 23  # the bits of the float 2^n
    return result * power.view(mx.float32)


def total(values: mx.array) -> mx.array:
    """Return the sum over the last axis ``[..., V]`` → ``[...]``, to a few units of float32.

    MLX on a CPU adds sequentially: over a vocabulary of 262,144 its softmax is off by a thousandth.
    Adding rows first, then their sums, keeps the small terms.
    """
    missing = -values.shape[-1] % _ROW
    padded = mx.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)]) if missing else values
    return padded.reshape(*values.shape[:-1], -1, _ROW).sum(axis=-1).sum(axis=-1)


def top(probs: mx.array) -> Top:
    """Return the top token of ``[..., V]``; its probability is the *confidence* ``p̂``."""
    token = mx.argmax(probs, axis=-1)
    return Top(mx.take_along_axis(probs, token[..., None], axis=-1)[..., 0], token)


def gap(probs: mx.array, winner: mx.array) -> mx.array:
    """Return the lead of ``winner`` ``[...]`` over the best other token of ``[..., V]``.

    A gap near zero marks a near-tie, which another summation order may decide otherwise. It is
    negative if a sampler drew a token that is not the top one.
    """
    chosen = mx.take_along_axis(probs, winner[..., None], axis=-1)
    rest = mx.put_along_axis(probs, winner[..., None], mx.array(-1.0), axis=-1)
    return chosen[..., 0] - rest.max(axis=-1)


def entropy(probs: mx.array) -> mx.array:
    """Return the entropy ``−Σ P log P`` of ``[..., V]`` in nats, ``[...]``."""
    return -total(probs * mx.log(mx.maximum(probs, FLOOR)))


def without(probs: mx.array, token: int) -> mx.array:
    """Return ``[..., V]`` with no mass on ``token``, not renormalised."""
    return mx.where(mx.arange(probs.shape[-1]) == token, 0.0, probs)


def restricted(probs: mx.array, allowed: mx.array) -> mx.array:
    """Return ``[..., V]`` restricted to the tokens ``allowed`` ``[..., V]`` and renormalised.

    If they have no mass at all, the result is uniform over them.
    """
    kept = mx.where(allowed, probs, 0.0)
    total = kept.sum(axis=-1, keepdims=True)
    evenly = allowed / allowed.sum(axis=-1, keepdims=True)
    return mx.where(total == 0, evenly, kept / total)


def blend_weight(
    base_confidence: mx.array, aligned_confidence: mx.array, agreement: mx.array, lambda_: float
) -> mx.array:
    """Return the guide's weight ``α = clip(p̂_g / (p̂_b + p̂_g) + λ · P_b(t_g), 0, 1)``.

    It is the guide's share of the confidence, plus a bonus where the base itself finds the guide's
    top token likely.

    Args:
        base_confidence: ``p̂_b`` ``[...]``.
        aligned_confidence: ``p̂_g`` ``[...]``.
        agreement: ``P_b(t_g)`` ``[...]``, the base's probability of the guide's top token.
        lambda_: ``λ``, the bonus for agreement.

    Example:
        >>> blend_weight(mx.array(0.3), mx.array(0.6), mx.array(0.1), 0.1).item()
        0.6766667366027832
    """
    ratio = aligned_confidence / (base_confidence + aligned_confidence)
    return mx.clip(ratio + lambda_ * agreement, 0.0, 1.0)


def blend(base: mx.array, aligned: mx.array, alpha: mx.array) -> mx.array:
    """Return ``α · P_g + (1 − α) · P_b`` for distributions ``[..., V]``, weights ``[...]``."""
    weight = alpha[..., None]
    return weight * aligned + (1.0 - weight) * base


def defer(base: mx.array, aligned: mx.array, limit: mx.array) -> tuple[mx.array, mx.array]:
    """Return the token-wise deferral ``r(v) = P_b(v)(1 − μ_v) + P_g(v) Σ_w P_b(w) μ_w``.

    ``μ_v = 1`` where ``P_b(v)`` is below the limit: the guide redistributes the base's mass there.

    Args:
        base: ``P_b`` ``[..., V]``.
        aligned: ``P_g`` ``[..., V]``.
        limit: the threshold on ``P_b`` ``[...]``.

    Returns:
        ``r`` ``[..., V]`` and the deferred mass ``Σ_w P_b(w) μ_w`` ``[...]``, the guide's weight.

    Example:
        >>> defer(mx.array([0.7, 0.2, 0.1]), mx.array([0.0, 0.5, 0.5]), mx.array(0.4))[0]
        array([0.7, 0.15, 0.15], dtype=float32)
    """
    deferred = base < limit[..., None]
    mass = total(mx.where(deferred, base, 0.0))
    return mx.where(deferred, 0.0, base) + aligned * mass[..., None], mass


def budget_limit(base: mx.array, budget: float) -> mx.array:
    """Return the threshold below which the least likely tokens fit a budget of mass, ``[...]``.

    Taken by rising probability, tokens are below it as long as their mass is at most the budget;
    the one that exceeds it is not, nor is any token that is as likely. A budget of 1 takes all.

    Bits of floats above 0 are ordered as the floats are, so halving their range 30 times finds the
    exact threshold. On a CPU that is faster than to sort a large vocabulary, and no sum runs over
    all of it in sequence.

    Args:
        base: ``P_b`` ``[..., V]``.
        budget: the mass, from 0 to 1.

    Example:
        >>> budget_limit(mx.array([0.6, 0.25, 0.15]), 0.4)   # 0.15 + 0.25 fit
        array(0.6, dtype=float32)
    """
    if budget >= 1.0:
        return mx.full(base.shape[:-1], mx.inf)
    bits = base.view(mx.int32)
    low = mx.zeros(base.shape[:-1], dtype=mx.int32)  # what is below it fits
    high = low + _BITS_OF_ONE + 1
    for _ in range(_BITS_OF_ONE.bit_length()):
        middle = (low + high) // 2
        fits = total(mx.where(bits < middle[..., None], base, 0.0)) <= budget
        low, high = mx.where(fits, middle, low), mx.where(fits, high, middle)
    return low.view(mx.float32)


def deferral_matters(
    base: mx.array, confidence: mx.array, token: mx.array, limit: mx.array
) -> mx.array:
    """Return whether some ``P_g`` could change the top token of :func:`defer`, ``[...]`` booleans.

    At most, all deferred mass goes to one other token: one below the limit, which has no other
    mass, or the best of the others above it. That token wins only with more than ``p̂_b``.

    Args:
        base: ``P_b`` ``[..., V]``.
        confidence: ``p̂_b`` ``[...]``.
        token: the base's top token ``[...]``.
        limit: the threshold on ``P_b`` ``[...]``.
    """
    deferred = base < limit[..., None]
    mass = total(mx.where(deferred, base, 0.0))
    kept = mx.where(deferred, 0.0, base)
    rival = mx.put_along_axis(kept, token[..., None], mx.array(0.0), axis=-1).max(axis=-1)
    return (confidence < limit) | (confidence < mass + rival)


def shift(base: mx.array, aligned: mx.array, reference: mx.array, beta: float) -> mx.array:
    """Return ``softmax(ℓ_b + β (ℓ_g − ℓ_a))`` for three distributions ``[..., V]``.

    Log-probabilities replace the logits: they differ by a constant, which a softmax ignores. A
    token without mass in both the guide and its twin is not shifted.
    """
    own, guide, twin = (mx.log(mx.maximum(probs, FLOOR)) for probs in (base, aligned, reference))
    return probabilities(own + beta * (guide - twin), base.shape[-1])


def plausible(expert: mx.array, share: float) -> mx.array:
    """Return which tokens of ``[..., V]`` have at least a share of the top token's probability."""
    return expert >= share * expert.max(axis=-1, keepdims=True)


def contrast(expert: mx.array, amateur: mx.array, beta: float, share: float) -> mx.array:
    """Return ``softmax((1 + β) ℓ_e − β ℓ_a)`` over the expert's plausible tokens, ``[..., V]``.

    The score of a token is its log-probability by the expert, and ``β`` times the lead that the
    expert has over the amateur. A token to which the amateur gives no mass, as one that its
    vocabulary cannot write, has no such lead.

    Args:
        expert: ``P_e`` ``[..., V]``.
        amateur: ``P_a`` ``[..., V]``.
        beta: ``β``.
        share: see :func:`plausible`; the ``α`` of the papers.

    Example:
        >>> contrast(mx.array([0.5, 0.4, 0.1]), mx.array([0.8, 0.1, 0.1]), 1.0, 0.5)
        array([0.163399, 0.836601, 1e-21], dtype=float32)
    """
    allowed = plausible(expert, share)
    own = mx.log(mx.maximum(expert, FLOOR))
    lead = mx.where(amateur > 0, own - mx.log(mx.maximum(amateur, FLOOR)), 0.0)
    scores = mx.where(allowed, own + beta * lead, -mx.inf)
    weights = mx.where(allowed, exponential(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    return mx.where(allowed, weights / total(weights)[..., None], _TRACE * expert)


def moved(base: mx.array, probs: mx.array) -> mx.array:
    """Return the total variation distance ``½ Σ |r − P_b|``: the share of mass moved, ``[...]``."""
    return 0.5 * total(mx.abs(probs - base))
