"""What a map of the dial says of a guide, in words that ``diagnose`` uses too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..diagnosis.bootstrap import Difference, share
from ..diagnosis.verdict import percent
from ..terminal.output import counted

if TYPE_CHECKING:
    from blendin_mlx.scoring.calibration import Calibration, Reliability
    from blendin_mlx.scoring.dial_map import Dial

    from .search import Outcome

FEWEST = 12  # examples
# A gain below this, in nats a token, is nothing that a reader would notice: the text is less than
# 1 % likelier a token.
NEGLIGIBLE = 0.01

Verdict = Literal["base", "blend", "guide", "undecided"]
WORDS: dict[Verdict, str] = {
    "base": "do not use this guide (the base alone is as good)",
    "blend": "use it at these settings",
    "guide": "use the guide alone",
    "undecided": "cannot be told from so few examples",
}


def judge(outcome: Outcome) -> Verdict:
    """Return which of the four verdicts the intervals allow."""
    if len(outcome.base) < FEWEST:
        return "undecided"
    if outcome.over_base.low > 0:  # both together beat the base
        if outcome.over_guide.value <= 0 or outcome.over_guide.high <= NEGLIGIBLE:
            return "guide"
        return "blend"
    if outcome.guide_over_base.low > 0:
        return "guide"
    return "base" if outcome.over_base.high <= NEGLIGIBLE else "undecided"


def rows(outcome: Outcome) -> dict[str, str]:
    """Return the figures as words, for a table."""
    return {
        "examples": f"{len(outcome.base)}",
        "settings": dial_words(outcome.best),
        "base alone": nats(share(outcome.base)),
        "guide alone": nats(share(outcome.guide)),
        f"default ({dial_words(outcome.default)})": nats(share(outcome.defaults)),
        "tuned, held out": nats(share(outcome.tuned)),
        "gain over base": gain(outcome.over_base),
        "gain over guide": gain(outcome.over_guide),
        "gain over default": gain(outcome.over_default),
        "worse": f"{percent(outcome.worse)} of the prompts are less likely than by the base alone",
        "agreement": f"{percent(outcome.agreed)} of the folds chose these settings",
    }


def dial_words(dial: Dial) -> str:
    """Return a setting as options are spelled: ``--tau 0.4 --alpha auto``."""
    if dial.tau == 0 or dial.scale == 0 or dial.alpha == 0:
        return "base alone"
    options = {"tau": dial.tau, "alpha": "auto" if dial.alpha is None else f"{dial.alpha:g}"}
    if dial.scale != 1:
        options["dial"] = dial.scale
    if dial.guide_temp != 1:
        options["guide-temp"] = dial.guide_temp
    return " ".join(f"--{name} {value}" for name, value in options.items())


def nats(value: float) -> str:
    """Return a log-likelihood a token: ``−2.306 nats a token``."""
    return f"{value:.3f} nats a token".replace("-", "−")


def gain(one: Difference) -> str:
    """Return a difference with its interval: ``+0.103 (+0.041 to +0.160)``."""
    return f"{signed(one.value)} nats a token ({signed(one.low)} to {signed(one.high)})"


def signed(value: float) -> str:
    """Return a gain with its sign: ``+0.103``."""
    return f"{value:+.3f}".replace("-", "−")


def signed_percent(share: float) -> str:
    """Return a share with a minus sign if it has one: ``−2 %``."""
    return f"{round(100 * share)} %".replace("-", "−")


def remarks(outcome: Outcome, calibrated: Calibration, temperature: float | None) -> list[str]:
    """Return the verdict and what there is to know about it, the verdict first."""
    found = judge(outcome)
    lines = [WORDS[found]]
    if len(outcome.base) < FEWEST:
        lines.append(
            f"{counted(len(outcome.base), 'example')} are too few to judge by: it takes {FEWEST}"
        )
    elif found == "undecided":
        lines.append("the interval of the gain over the base has 0 in it: add examples")
    if found == "blend" and not outcome.over_guide.is_real:
        lines.append("it is not certain that the guide alone is worse")
    if found == "blend" and not outcome.over_default.is_real:
        lines.append("it is not certain that these settings are better than the default")
    for name, one in (("base", calibrated.base_open), ("guide", calibrated.guide_open)):
        if words := _calibration(one):
            lines.append(f"where the guide is asked, {name}: {words}")
    if temperature is not None:
        lines.append(
            f"where both agree the guide is as sure as the base at --guide-temp {temperature:.2f}"
        )
    return [
        *lines,
        "this judges how likely good answers are, not the answers that are written; blendin "
        "diagnose shows how those come about",
    ]


def _calibration(one: Reliability) -> str | None:
    """Return how sure a model is and how often it is right, in words."""
    if one.error is None:
        return None
    of = sum(each.count for each in one.bins)
    confidence = sum(each.count * each.confidence for each in one.bins) / of
    right = sum(each.count * each.right for each in one.bins) / of
    return (
        f"confidence {confidence:.2f}, right {right:.2f}; expected calibration error "
        f"{one.error:.3f}"
    )
