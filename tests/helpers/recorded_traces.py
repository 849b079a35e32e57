"""A small trace for tests, as lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HOSTILE = '</script><script>document.title="broken"</script>\u202e\x1b[31m<b>&"\''


def step(index: int, text: str, token: int, wish: int, alpha: float | None) -> dict[str, Any]:
    """A step that wrote ``token`` where the base's top token was ``wish``."""
    guide = None if alpha is None else {"id": 9, "text": text, "prob": 0.8}
    return {
        "type": "step",
        "index": index,
        "id": token,
        "text": text,
        "aligned": guide,
        "source": "base" if alpha is None else "blend",
        "alpha": alpha,
        "prob": 0.5,
        "base": {"id": wish, "text": "wish", "prob": 0.3},
        "exact_mass": None,
        "stop_prob": 0.0,
        "gate_margin": -0.1,
        "gap": 0.2,
    }


def ranked(*tokens: tuple[str, float]) -> list[dict[str, Any]]:
    """Candidates of a step, by their texts and probabilities."""
    return [{"id": n, "text": text, "prob": prob} for n, (text, prob) in enumerate(tokens)]


def write_trace(
    path: Path,
    middle: str = " kept",
    written_by: str | None = None,
    more: Sequence[dict[str, Any]] = (),
) -> Path:
    """A run of three tokens: the base's, one kept, one overridden; and ``more`` steps."""
    models = {"base": {"name": "big"}, "aligned": {"name": "small"}}
    records = [
        {"type": "run", "version": written_by or version("blendin-mlx"), "models": models}
        | {"method": "blendin", "tau": 0.4, "base_prompt": {"text": middle, "ids": [1]}},
        step(0, "Plain", 1, 1, None),
        step(1, middle, 2, 2, 0.2),
        step(2, " over", 3, 4, 0.9),
        *more,
        {"type": "end", "finish_reason": "stop"},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
