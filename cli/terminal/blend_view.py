"""The blend in a terminal: who decided each token, and how much the guide weighed.

Text of the base is plain. Where the guide was asked, blue says that the base's choice was kept and
orange that it was overridden; the deeper the colour, the larger α, on one scale for all runs. The
two hues stay apart for colour-blind eyes; without colour, marks stand in for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal

import click

from .output import counted
from .safe_text import SafeText, harmless
from .status import is_plain

# end    the guide found the answer over
# guide  it wrote alone: the base was not run
Decision = Literal["base", "kept", "override", "end", "guide"]

# 256-colour backgrounds under black letters, ever darker from α = 0 to α = 1.
SHADES = {"kept": (195, 153, 111, 69), "override": (230, 223, 215, 208)}
MARKS = {"kept": ("‹", "›"), "override": ("«", "»")}
BLACK = 16
BARS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 60


def decision(source: str, alpha: float | None, token: int, wish: int | None) -> Decision:
    """Return who decided; ``token`` was written, ``wish`` was the base's, None if not run."""
    if alpha is None:
        return "end" if source == "aligned" else "base"
    if wish is None:
        return "guide"
    return "kept" if token == wish else "override"


def recorded_decision(step: dict[str, Any]) -> Decision:
    """Return who decided a step of a trace."""
    wish = step["base"] and step["base"]["id"]
    return decision(step["source"], step["alpha"], step["id"], wish)


def level(alpha: float | None) -> int:
    """Return which of four shades stands for α; None counts as 1."""
    return min(max(int(4 * (1 if alpha is None else alpha)), 0), 3)


def wants_marks() -> bool:
    """Return whether stdout should get marks instead of colours."""
    return is_plain() or not sys.stdout.isatty()


class BlendView:
    """A styler of an answer as it streams; each piece is styled on its own.

    Example:
        >>> view = BlendView(marks=True)
        >>> view.piece("override", 0.7, " sleep")
        ' «sleep»'
    """

    def __init__(self, marks: bool) -> None:
        self.marks = marks
        self._safe = SafeText()

    def piece(self, decided: Decision, alpha: float | None, text: str) -> str:
        """Return the text of one token, made harmless and styled; ``alpha`` None counts as 1."""
        shown = self._safe.feed(text).encode(errors="replace").decode()
        if decided not in MARKS or not shown:
            return shown
        if self.marks:
            return _marked(MARKS[decided], shown)
        shade = SHADES[decided][level(alpha)]
        return "\n".join(
            click.style(line, fg=BLACK, bg=shade) if line else "" for line in shown.split("\n")
        )

    def legend(self) -> str:
        """Return a line that explains the styles."""
        kept = self.piece("kept", 0.5, "base's choice kept")
        override = self.piece("override", 0.5, "base overridden")
        scale = "" if self.marks else f"; α from 0 {self._scale()} to 1"
        return f"plain: one model alone, {kept}, {override}{scale}"

    def _scale(self) -> str:
        levels = (0.0, 0.25, 0.5, 0.75)
        return "".join(
            self.piece(hue, level, "  ") for hue in ("kept", "override") for level in levels
        )


def _marked(marks: tuple[str, str], text: str) -> str:
    opening, closing = marks
    body = text.strip()
    if not body:
        return f"{opening}{text.replace(chr(10), '↵')}{closing}" + "\n" * text.count("\n")
    start = text.index(body)
    return f"{text[:start]}{opening}{body}{closing}{text[start + len(body) :]}"


def sparkline(alphas: Sequence[float | None], width: int = SPARK_WIDTH) -> str:
    """Return α over the answer, 0 to 1, the largest of each column; a dot if the base decided."""
    columns = min(width, len(alphas))
    cuts = [len(alphas) * column // columns for column in range(columns + 1)] if columns else [0]
    return "".join(_bar(alphas[a:b]) for a, b in pairwise(cuts))


def _bar(alphas: Iterable[float | None]) -> str:
    known = [alpha for alpha in alphas if alpha is not None]
    return BARS[min(max(int(8 * max(known)), 0), 7)] if known else "·"


def closing_line(alphas: Sequence[float | None], decided: Sequence[Decision]) -> str:
    """Return the sparkline, the rate and the number of overrides."""
    asked = sum(alpha is not None for alpha in alphas)
    rate = asked / len(alphas) if alphas else 0.0
    return (
        f"α {sparkline(alphas)} {counted(asked, 'intervention')} in "
        f"{counted(len(alphas), 'token')} ({rate:.1%}){count_overrides(decided)}"
    )


def count_overrides(decided: Sequence[Decision]) -> str:
    """Return the number of overrides as the end of a line; nothing where the base was not run."""
    return "" if "guide" in decided else f", {counted(decided.count('override'), 'override')}"


def override_line(step: dict[str, Any]) -> str:
    """Describe an override of a trace: index, base's choice, token, α, both confidences."""
    base, guide = step["base"], step["aligned"]
    alpha = "" if step["alpha"] is None else f"  α {step['alpha']:.2f}"
    asked = "" if guide is None else f"  guide {guide['prob']:.2f}"
    if votes := step.get("votes"):
        said = (f"{harmless(v['guide'])} {visible(v['text'])} {v['prob']:.2f}" for v in votes)
        asked += f" ({', '.join(said)})"
    wish, written = visible(base["text"]), visible(step["text"])
    return f"{step['index']:>5}  {wish} → {written}{alpha}  base {base['prob']:.2f}{asked}"


def visible(text: str) -> str:
    """Return a token's text on one line, in quotes, or ``(nothing)``."""
    if not text:
        return "(nothing)"
    shown = harmless(text).encode(errors="replace").decode()
    return "'" + shown.replace("\n", "↵").replace("\t", "⇥") + "'"
