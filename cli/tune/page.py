"""What ``tune`` found as one web page: the map as a picture, reliability, examples by gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..terminal.blend_view import visible
from ..terminal.web_pages import clean, render
from .report import Report, place_rows
from .search import TAUS, WEIGHTS
from .verdict import dial_words, rows, signed

if TYPE_CHECKING:
    from blendin_mlx.scoring.calibration import Reliability
    from blendin_mlx.scoring.dial_map import Dial

CELL_WIDTH, CELL_HEIGHT = 28, 20
SIDE = 200.0  # of a reliability diagram
LEVELS = 4  # shades of a gain, either way
STRONGEST = 2.0  # nats from which on a token has the darkest shade


def page(found: Report) -> str:
    """Return the page."""
    head, *others = found.remarks
    return render(
        __package__,
        "page.html",
        title=clean(f"{found.base} guided by {found.aligned}"),
        verdict=clean(head),
        remarks=[_words(line) for line in others],
        figures=[(_words(name), _words(value)) for name, value in rows(found.outcome).items()],
        places=[(_words(name), _words(value)) for name, value in place_rows(found).items()],
        map=_map(found),
        curves=_curves(found),
        side=SIDE,
        examples=_examples(found),
    )


def _words(text: str) -> str:
    """Return text in which a percent sign stays with its number."""
    return clean(text).replace(" %", "\u00a0%")


def _map(found: Report) -> dict[str, Any]:
    """Return the gain over the base of each gate and weight, at the chosen temperature."""
    from blendin_mlx.scoring.dial_map import Dial

    best, default = found.outcome.best, found.outcome.default
    dials = [
        [Dial(tau, alpha, default.lambda_, scale, best.guide_temp) for tau in TAUS]
        for alpha, scale in WEIGHTS
    ]
    flat = [dial for line in dials for dial in line]
    gains = (found.read.totals(flat).sum(axis=1) - found.read.base_totals.sum()).tolist()
    per_token = [gain / int(found.read.counts.sum()) for gain in gains]
    most, least = max(*per_token, 0.0), min(*per_token, 0.0)
    cells = [
        {
            "x": (n % len(TAUS)) * CELL_WIDTH,
            "y": (n // len(TAUS)) * CELL_HEIGHT,
            "opacity": f"{_share(gain, most if gain >= 0 else least):.3f}",
            "sign": "more" if gain >= 0 else "less",
            "mark": _mark(dial, best, default),
            "label": f"{dial_words(dial)}: {signed(gain)} nats a token over the base",
        }
        for n, (dial, gain) in enumerate(zip(flat, per_token, strict=True))
    ]
    return {
        "cells": cells,
        "cell": (CELL_WIDTH, CELL_HEIGHT),
        "width": len(TAUS) * CELL_WIDTH,
        "height": len(WEIGHTS) * CELL_HEIGHT,
        "taus": [((n + 0.5) * CELL_WIDTH, f"{tau:g}") for n, tau in enumerate(TAUS) if n % 2],
        "weights": [
            ((n + 0.5) * CELL_HEIGHT, f"α auto × {scale:g}" if alpha is None else f"α {alpha:g}")
            for n, (alpha, scale) in enumerate(WEIGHTS)
        ],
        "most": signed(most),
        "least": signed(least),
        "temp": f"{best.guide_temp:g}",
    }


def _share(gain: float, extreme: float) -> float:
    """Return a gain as a share of the largest gain, or a loss of the largest loss."""
    return gain / extreme if extreme else 0.0


def _mark(dial: Dial, best: Dial, default: Dial) -> str:
    if dial == best:
        return "best"
    return "default" if dial == default else ""


def _curves(found: Report) -> list[dict[str, Any]]:
    one = found.calibrated
    named = {
        "base, all tokens": one.base,
        "guide, all tokens": one.guide,
        "base, where the guide is asked": one.base_open,
        "guide, where it is asked": one.guide_open,
    }
    return [
        {"name": name, "error": f"{curve.error:.3f}", "points": _points(curve)}
        for name, curve in named.items()
        if curve.error is not None
    ]


def _points(curve: Reliability) -> list[tuple[float, float, float, str]]:
    """Return place, radius and words of each bin."""
    of = max(one.count for one in curve.bins)
    return [
        (
            round(SIDE * one.confidence, 1),
            round(SIDE * (1 - one.right), 1),
            round(2 + 6 * (one.count / of) ** 0.5, 1),
            f"{one.count} tokens: confidence {one.confidence:.2f}, right {one.right:.2f}",
        )
        for one in curve.bins
    ]


def _examples(found: Report) -> list[dict[str, Any]]:
    """Return each example with its tokens shaded by what the tuned setting gains there."""
    gains = (found.outcome.held_out - found.read.base_log).tolist()
    shown, start = [], 0
    for example, count in zip(found.given, found.read.counts.tolist(), strict=True):
        part = slice(start, start + count)
        mean = sum(gains[part]) / count
        shown.append(
            {
                "prompt": clean(example.messages[-1]["content"]),
                "kind": clean(example.kind),
                "gain": f"{signed(mean)} nats a token",
                "worse": mean < 0,
                "tokens": _tokens(found.texts[part], gains[part]),
            }
        )
        start += count
    return shown


def _tokens(texts: Sequence[str], gains: Sequence[float]) -> list[dict[str, str]]:
    return [
        {
            "text": clean(text) or "■",
            "shade": _shade(gain),
            "label": f"{visible(text) or 'end'}: {gain:+.2f} nats",
        }
        for text, gain in zip(texts, gains, strict=True)
    ]


def _shade(gain: float) -> str:
    """Return the class of a gain: ``more1`` to ``more4``, ``less1`` to ``less4``, or none."""
    level = round(LEVELS * min(abs(gain) / STRONGEST, 1.0))
    return f"{'more' if gain > 0 else 'less'}{level}" if level else ""
