"""The best setting of the dial, and what it gains on prompts that had no part in choosing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..diagnosis.bootstrap import Difference, Part, difference

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from blendin_mlx.scoring.dial_map import Dial, DialMap

    Numbers = npt.NDArray[np.float64]

FOLDS = 5
TAUS = tuple(round(0.05 * n, 2) for n in range(1, 21))
ALPHAS = tuple(round(0.1 * n, 1) for n in range(1, 11))
SCALES = (0.25, 0.5, 0.75, 1.0)
# Weights that are tried, by the row of the map: a constant one, or the scale of the other.
WEIGHTS: tuple[tuple[float | None, float], ...] = (
    *((None, scale) for scale in SCALES),
    *((alpha, 1.0) for alpha in ALPHAS),
)
FIRST = 3  # tokens that an answer begins with


@dataclass(frozen=True)
class Outcome:
    """What cross-validation over the prompts found.

    Attributes:
        best: the setting that is best over all prompts.
        default: the one that it is compared with.
        held_out: ``log r(y)`` of all positions, each at the setting that the other folds chose.
        base, guide, defaults, tuned: log-likelihood and tokens of each prompt: by each model
            alone, at the default, and held out.
        over_base, over_guide, over_default: what the tuned setting gains in nats a token.
        guide_over_base: what the guide alone gains over the base alone.
        worse: share of the prompts that are less likely than by the base alone.
        agreed: share of the folds that chose the same as all prompts together.
    """

    best: Dial
    default: Dial
    held_out: Numbers
    base: list[Part]
    guide: list[Part]
    defaults: list[Part]
    tuned: list[Part]
    over_base: Difference
    over_guide: Difference
    over_default: Difference
    guide_over_base: Difference
    worse: float
    agreed: float


def grid(temperatures: Sequence[float], lambda_: float) -> list[Dial]:
    """Return the settings that are tried, those that ask the guide least first."""
    from blendin_mlx.scoring.dial_map import Dial

    return [
        Dial(tau, alpha, lambda_, scale, temp)
        for tau in TAUS
        for alpha, scale in WEIGHTS
        for temp in temperatures
    ]


def search(read: DialMap, default: Dial) -> Outcome:
    """Choose a setting, and measure by cross-validation over the prompts what choosing gains.

    Args:
        read: the examples; with a single one there is nothing held out, and its own gain is told.
        default: the setting to compare with; it is among those that are tried.
    """
    import numpy as np

    dials = [default, *grid(read.temperatures, default.lambda_)]
    totals = read.totals(dials)
    count = len(read.counts)
    order = np.random.default_rng(0).permutation(count)
    best = int(totals.sum(axis=1).argmax())
    tuned, held_out = np.empty(count), np.empty(int(read.counts.sum()))
    owner = np.repeat(np.arange(count), read.counts)
    chosen = []
    for fold in filter(len, (order[n::FOLDS] for n in range(FOLDS))):
        others = np.setdiff1d(order, fold) if count > 1 else fold
        one = int(totals[:, others].sum(axis=1).argmax())
        chosen.append(one)
        tuned[fold] = totals[one, fold]
        here = np.isin(owner, fold)
        held_out[here] = read.log_probs(dials[one])[here]

    def parts(sums: Numbers) -> list[Part]:
        return list(zip(sums.tolist(), read.counts.tolist(), strict=True))

    base, guide = parts(read.base_totals), parts(read.guide_totals)
    defaults, kept_out = parts(totals[0]), parts(tuned)
    return Outcome(
        best=dials[best],
        default=default,
        held_out=held_out,
        base=base,
        guide=guide,
        defaults=defaults,
        tuned=kept_out,
        over_base=difference(base, kept_out),
        over_guide=difference(guide, kept_out),
        over_default=difference(defaults, kept_out),
        guide_over_base=difference(base, guide),
        worse=float((tuned < read.base_totals).mean()),
        agreed=sum(one == best for one in chosen) / len(chosen),
    )


@dataclass(frozen=True)
class Place:
    """Positions of one sort, and what the tuned setting gains there over the base.

    Attributes:
        tokens: how many.
        gain: in nats a token.
        share: of the whole gain, in absolute value of it; None where nothing is gained.
    """

    name: str
    tokens: int
    gain: float
    share: float | None


def places(
    read: DialMap, outcome: Outcome, kinds: Sequence[str], line_breaks: Sequence[bool]
) -> list[Place]:
    """Return where the gain lies: at first tokens, at line breaks, elsewhere; then by kind.

    Args:
        read: the map of the examples.
        outcome: of the search.
        kinds: of the prompts.
        line_breaks: which positions hold a line break.
    """
    import numpy as np

    gains = outcome.held_out - read.base_log
    index = np.concatenate([np.arange(count) for count in read.counts])
    breaks = np.array(line_breaks)
    sorts = {"first tokens": index < FIRST, "line breaks": breaks & (index >= FIRST)}
    sorts["other tokens"] = ~(sorts["first tokens"] | sorts["line breaks"])
    of_kind = np.repeat(np.array(kinds), read.counts)
    sorts |= {f"kind: {kind}": of_kind == kind for kind in dict.fromkeys(kinds)}
    whole = float(np.abs(gains.sum()))
    return [
        Place(
            name,
            int(here.sum()),
            float(gains[here].mean()),
            float(gains[here].sum()) / whole if whole else None,
        )
        for name, here in sorts.items()
        if here.any()
    ]
