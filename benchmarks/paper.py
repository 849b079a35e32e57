"""Does the intervention rate foretell the score? The paper's own figures, correlated anew.

paper.csv holds what the authors report of their Nudging runs: 15 pairs of a guide and a base, six
tasks; interventions per answer, in percent of words, and the score. Printed are Pearson's r of the
percentage with the score, over all pairs and over those within and across model families.

    python benchmarks/paper.py            # the table
    python benchmarks/paper.py --plot     # and benchmarks/paper.png (needs matplotlib)
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SCOPES = ("all", "within", "across")


class Run(NamedTuple):
    """One pair on one task; families are the names' first letters (Llama, Gemma, Qwen)."""

    guide: str
    base: str
    task: str
    percent: float
    score: float

    def is_in(self, scope: str) -> bool:
        """Whether both models are of one family, or of two."""
        return scope == "all" or (scope == "within") == (self.guide[0] == self.base[0])


def read_runs() -> list[Run]:
    """The authors' figures."""
    with (HERE / "paper.csv").open(encoding="utf-8") as file:
        return [
            Run(
                row["guide"],
                row["base"],
                row["task"],
                float(row["percent_of_words"]),
                float(row["score"]),
            )
            for row in csv.DictReader(file)
        ]


def correlations(runs: list[Run], scope: str) -> dict[str, float]:
    """Pearson's r of the intervention rate with the score, by task."""
    found = {}
    for task in dict.fromkeys(run.task for run in runs):
        chosen = [run for run in runs if run.task == task and run.is_in(scope)]
        percents, scores = [run.percent for run in chosen], [run.score for run in chosen]
        found[task] = statistics.correlation(percents, scores)
    return found


def table(runs: list[Run]) -> str:
    """All correlations, as Markdown."""
    columns = {scope: correlations(runs, scope) for scope in SCOPES}
    counts = {scope: len({r[:2] for r in runs if r.is_in(scope)}) for scope in SCOPES}
    head = "".join(f" {scope} ({counts[scope]} pairs) |" for scope in SCOPES)
    lines = [f"| task |{head}", "|---|" + "---|" * len(SCOPES)]
    for task in columns["all"]:
        lines.append(f"| {task} |" + "".join(f" {columns[s][task]:+.3f} |" for s in SCOPES))
    return "\n".join(lines)


def plot(runs: list[Run], target: Path) -> None:
    """Score against rate, a panel for each task, families told apart by the mark."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(11, 6.5))
    overall = correlations(runs, "all")
    for panel, task in zip(panels.flat, overall, strict=True):
        for scope, mark in (("within", "o"), ("across", "x")):
            chosen = [run for run in runs if run.task == task and run.is_in(scope)]
            label = "one family" if scope == "within" else "two families"
            panel.scatter([r.percent for r in chosen], [r.score for r in chosen], marker=mark,
                          label=label)  # fmt: skip
        panel.set_title(f"{task}: r = {overall[task]:+.2f}")
        panel.set_xlabel("interventions, % of words")
        panel.set_ylabel("score")
        panel.axvline(20, color="grey", linewidth=0.7, linestyle=":")
    panels.flat[0].legend()
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", action="store_true", help="write benchmarks/paper.png too")
    runs = read_runs()
    wanted = parser.parse_args()
    print(table(runs))
    if wanted.plot:
        plot(runs, HERE / "paper.png")


if __name__ == "__main__":
    main()
