"""The figures below an answer: a short line for people, or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import counted

if TYPE_CHECKING:
    from blendin_mlx.answer_statistics import Statistics

ALONE = ("base", "aligned")  # methods by which one model answers: nobody is asked
# What a person is told about an end; nothing where the answer was over.
ENDS = {
    "length": "cut at --max-tokens",
    "context": "the context is full",
    "interrupted": "interrupted",
}


def short_figures(statistics: Statistics, end: str | None = None) -> str:
    """Return the closing line: ``8 tokens · 6.1/s · guide asked 1×``."""
    parts = [_tokens(statistics), f"{statistics.tokens_per_s:.1f}/s"]
    if statistics.method["method"] not in ALONE:
        parts.append(f"guide asked {statistics.interventions}×")
    end = end or ENDS.get(statistics.finish_reason or "")
    return " · ".join([*parts, end] if end else parts)


def all_figures(statistics: Statistics, end: str | None = None) -> str:
    """Return tokens, speed, interventions, weight, drafts, and why the answer ended."""
    parts = [_tokens(statistics), f"{statistics.tokens_per_s:.1f} tokens/s"]
    if statistics.method["method"] not in ALONE:
        asked, rate = statistics.interventions, statistics.intervention_rate
        parts.append(f"{counted(asked, 'intervention')} ({rate:.1%})")
        if statistics.mean_alpha is not None:
            parts.append(f"mean α {statistics.mean_alpha:.2f}")
    if statistics.drafted:
        parts.append(f"{statistics.accepted} of {statistics.drafted} drafted tokens accepted")
    uses = {"base": statistics.base, "guide": statistics.aligned}
    uses |= {role.replace("aligned", "guide"): use for role, use in statistics.others.items()}
    for model, use in uses.items():
        if use.rereads:  # its cache could not be rewound, or text was tokenized again
            parts.append(f"{counted(use.rereads, 'token')} read again by the {model}")
    return ", ".join([*parts, f"end: {end or statistics.finish_reason}"])


def _tokens(statistics: Statistics) -> str:
    kept = f" ({statistics.kept_tokens} kept)" if statistics.kept_tokens else ""
    return counted(statistics.completion_tokens, "token") + kept
