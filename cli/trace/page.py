"""Render traces as a self-contained web page; text of a trace is always escaped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..terminal.blend_view import MARKS, count_overrides, level, recorded_decision, visible
from ..terminal.output import counted
from ..terminal.web_pages import clean, render

if TYPE_CHECKING:
    from blendin_mlx.trace.records import RecordedRun

_BINS = 20
WIDTH, HEIGHT = 600.0, 100.0
_WORDS = {"base": "base alone", "kept": "base's choice kept", "override": "base overridden"}
_WORDS |= {"end": "guide: the answer is over", "guide": "guide alone"}


def page(runs: list[tuple[str, RecordedRun]]) -> str:
    """Render the page of named runs, side by side."""
    return render(__package__, "page.html", runs=[_run(name, recorded) for name, recorded in runs])


def _run(name: str, recorded: RecordedRun) -> dict[str, Any]:
    tokens = [{**_token(step), "place": n} for n, step in enumerate(recorded.steps)]
    asked = sum(step["alpha"] is not None for step in recorded.steps)
    overrides = [token for token in tokens if token["decided"] == "override"]
    from blendin_mlx.trace.records import guide_names

    run, end = recorded.run, recorded.end or {}
    rate = f"{asked / len(tokens):.1%}" if tokens else "0%"
    return {
        "name": clean(name),
        "notes": [clean(note) for note in recorded.notes],
        "base": clean(run["models"]["base"]["name"]),
        "aligned": clean(guide_names(run)),
        "prompt": _prompt(run),
        "tokens": tokens,
        "counts": f"{counted(len(tokens), 'token')}, {counted(asked, 'intervention')} ({rate})"
        f"{count_overrides([token['decided'] for token in tokens])}",
        "overrides": overrides,
        "finish": clean(end.get("finish_reason", "cut off")),
        "by_guide": bool(tokens) and tokens[-1]["decided"] == "end",
        "settings": _settings(run),
        "timeline": _timeline(recorded.steps),
        "histogram": _histogram(recorded.steps, _threshold(run)),
    }


def _prompt(run: dict[str, Any]) -> str:
    prompt = run.get("base_prompt")
    return clean(prompt.get("text", "")) if isinstance(prompt, dict) else ""


def _settings(run: dict[str, Any]) -> list[tuple[str, str]]:
    apart = ("type", "models", "weights", "base_prompt", "aligned_prompt", "other_prompts")
    shown = {key: value for key, value in run.items() if key not in apart and value is not None}
    return [
        (clean(key), clean(value if isinstance(value, str) else json.dumps(value)))
        for key, value in shown.items()
    ]


def _token(step: dict[str, Any]) -> dict[str, Any]:
    decided, alpha = recorded_decision(step), step["alpha"]
    facts = [
        ("token", f"{step['index']}  {visible(step['text'])}"),
        ("decided by", _WORDS[decided]),
    ]
    facts += _rankings(step)
    named = {"alpha": "α", "prob": "probability", "gap": "lead over the next"}
    named |= {"gate_margin": "distance to τ", "stop_prob": "P(end)", "exact_mass": "exact mass"}
    facts += [(words, f"{step[key]:.3f}") for key, words in named.items() if _known(step, key)]
    return {
        "index": step["index"],
        "text": clean(step["text"]),
        "shown": visible(step["text"]),
        "decided": decided,
        "style": f"{decided} level{level(alpha)}" if decided in MARKS else "base",
        "label": ", ".join(f"{key} {value}" for key, value in facts),
        "facts": json.dumps(facts, ensure_ascii=False),
        "wish": visible(step["base"]["text"]) if step["base"] else "",
        "alpha": "" if alpha is None else f"{alpha:.2f}",
        "base_prob": f"{step['base']['prob']:.2f}" if step["base"] else "",
        "guide_prob": f"{step['aligned']['prob']:.2f}" if step.get("aligned") else "",
    }


def _rankings(step: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the likeliest tokens of each model and the blend; just the top one if no more."""
    tops = {role: [step[role]] for role in ("base", "aligned") if step.get(role)}
    lists = {**tops, **step.get("candidates", {})}
    words = {"base": "base's choice", "aligned": "guide's choice", "blend": "blend's choice"}
    votes = [(f"{clean(one['guide'])} says", _candidate(one)) for one in step.get("votes", [])]
    return votes + [
        (word, "\n".join(map(_candidate, lists[role])))
        for role, word in words.items()
        if lists.get(role)
    ]


def _known(step: dict[str, Any], key: str) -> bool:
    return step.get(key) is not None


def _candidate(candidate: dict[str, Any]) -> str:
    return f"{visible(candidate['text'])}  {candidate['prob']:.3f}"


def _timeline(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the points of the base's confidence (a line), the guide's and α (dots), in pixels."""
    scale = WIDTH / max(len(steps), 1)

    def points(values: list[float | None]) -> list[tuple[float, float]]:
        return [
            (round((i + 0.5) * scale, 1), round(HEIGHT * (1 - value), 1))
            for i, value in enumerate(values)
            if value is not None
        ]

    base = points([(step["base"] or {}).get("prob") for step in steps])
    return {
        "base": " ".join(f"{x},{y}" for x, y in base),
        "guide": points([(step.get("aligned") or {}).get("prob") for step in steps]),
        "alpha": points([step["alpha"] for step in steps]),
    }


def _threshold(run: dict[str, Any]) -> Any:
    """Return τ where it is one of the confidence, which the histogram shows."""
    return run.get("tau") if run.get("gate") in (None, "confidence") else None


def _histogram(steps: list[dict[str, Any]], tau: Any) -> dict[str, Any]:
    counts = [0] * _BINS
    for step in filter(lambda step: step["base"], steps):
        counts[min(max(int(_BINS * step["base"]["prob"]), 0), _BINS - 1)] += 1
    tallest, width = max([*counts, 1]), WIDTH / _BINS
    bars = [
        {"x": i * width + 1, "width": width - 2, "y": HEIGHT * (1 - n / tallest), "n": n}
        for i, n in enumerate(counts)
    ]
    marked = isinstance(tau, int | float) and 0 <= tau <= 1
    return {"bars": bars, "tau": tau if marked else None, "x": WIDTH * tau if marked else 0}
