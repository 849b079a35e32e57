"""All that ``tune`` found, as one record, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..diagnosis.bootstrap import share
from .examples import Example
from .search import Outcome, Place, places, search
from .verdict import Verdict, judge, remarks, rows, signed, signed_percent

if TYPE_CHECKING:
    from blendin_mlx.model import Pair
    from blendin_mlx.scoring.calibration import Calibration
    from blendin_mlx.scoring.dial_map import Dial, DialMap
    from blendin_mlx.scoring.readings import Reading


@dataclass(frozen=True)
class Report:
    """What the examples say of a pair.

    Attributes:
        base, aligned: names of the models.
        given: the examples, in the order of ``read``.
        texts: what each position of them writes.
        calibrated: at the gate and the temperature of the default.
        temperature: at which the guide is as sure as the base where they agree.
    """

    base: str
    aligned: str
    given: Sequence[Example]
    read: DialMap
    texts: Sequence[str]
    outcome: Outcome
    verdict: Verdict
    places: Sequence[Place]
    calibrated: Calibration
    temperature: float | None

    @property
    def examples(self) -> int:
        """How many there are."""
        return len(self.given)

    @property
    def remarks(self) -> list[str]:
        """The verdict and what there is to know about it."""
        return remarks(self.outcome, self.calibrated, self.temperature)


def report(
    pair: Pair, given: Sequence[Example], readings: Sequence[Reading], default: Dial
) -> Report:
    """Choose a setting for the examples that were read, and judge it.

    Args:
        pair: the models.
        given: the examples.
        readings: what was read of each example, in the same order.
        default: what to compare with; its temperature is one of those that were read.
    """
    from blendin_mlx.scoring.calibration import calibration, fit_temperature
    from blendin_mlx.scoring.dial_map import DialMap

    read = DialMap(readings)
    outcome = search(read, default)
    written = pair.base.vocabulary.token_bytes
    tokens = read.joined("tokens").tolist()
    texts = [(written[token] or b"").decode(errors="replace") for token in tokens]
    kinds = [example.kind for example in given]
    return Report(
        base=pair.base.name,
        aligned=pair.guide_name,
        given=given,
        read=read,
        texts=texts,
        outcome=outcome,
        verdict=judge(outcome),
        places=places(read, outcome, kinds, ["\n" in text for text in texts]),
        calibrated=calibration(read, default.tau, default.guide_temp),
        temperature=fit_temperature(read),
    )


def as_text(found: Report) -> str:
    """Return what a terminal shows."""
    figures, gains = rows(found.outcome), place_rows(found)
    width = max(map(len, (*figures, *gains))) + 2
    head, *others = found.remarks
    return "\n".join(
        [
            f"{found.base} guided by {found.aligned}: {head}",
            *(f"  {name:<{width}}{value}" for name, value in figures.items()),
            "gain over the base alone, by place:",
            *(f"  {name:<{width}}{value}" for name, value in gains.items()),
            *(f"  - {line}" for line in others),
        ]
    )


def place_rows(found: Report) -> dict[str, str]:
    """Return where the gain lies, as words."""
    return {
        place.name: f"{signed(place.gain)} nats a token at {place.tokens} tokens"
        + ("" if place.share is None else f", {signed_percent(place.share)} of the whole")
        for place in found.places
    }


def as_json(found: Report) -> dict[str, Any]:
    """Return the ``--json`` object."""
    outcome = found.outcome
    alone = {"base": outcome.base, "guide": outcome.guide}
    blended = {"default": outcome.defaults, "tuned": outcome.tuned}
    differences = {
        "base": outcome.over_base,
        "guide": outcome.over_guide,
        "default": outcome.over_default,
    }
    return {
        "models": {"base": found.base, "aligned": found.aligned},
        "examples": found.examples,
        "tokens": int(found.read.counts.sum()),
        "verdict": found.verdict,
        "remarks": found.remarks,
        "settings": dial_as_json(outcome.best),
        "compared_with": dial_as_json(outcome.default),
        "nats_per_token": {n: share(parts) for n, parts in (alone | blended).items()},
        "gain_over": {name: asdict(one) for name, one in differences.items()},
        "worse_than_base": outcome.worse,
        "folds_agreed": outcome.agreed,
        "places": [asdict(place) for place in found.places],
        "calibration": asdict(found.calibrated),
        "guide_temp_by_agreement": found.temperature,
    }


def dial_as_json(dial: Dial) -> dict[str, Any]:
    """Return a setting by the long names of its options."""
    return {
        "tau": dial.tau,
        "alpha": "auto" if dial.alpha is None else dial.alpha,
        "lambda": dial.lambda_,
        "dial": dial.scale,
        "guide_temp": dial.guide_temp,
    }
