"""Ask each model of the demo pair alone what mlx-lm's own evaluation asks it, and compare.

python benchmarks/harness_tasks.py tasks
python benchmarks/harness_check.py tasks --limit 100
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from blendin_cli.eval.arguments import session_of
from blendin_cli.eval.harness import prepare
from blendin_cli.eval.tasks import load_tasks
from blendin_mlx.model import LanguageModel


def requests_of(folder: Path, task: str, limit: int) -> list[Any]:
    """What the harness asks of the first questions of a task."""
    (loaded,) = load_tasks([task], folder)["tasks"]
    loaded.set_config(key="num_fewshot", value=0)
    loaded.build_all_requests(limit=limit)
    return list(loaded.instances)


def asked_by_mlx_lm(model: LanguageModel, requests: list[Any]) -> list[tuple[float, bool]]:
    """The responses of mlx-lm's evaluation over a network that is loaded already."""
    from mlx_lm.evaluate import MLXLM

    theirs = MLXLM.__new__(MLXLM)
    theirs._model, theirs.tokenizer = model.network, model.tokenizer
    theirs._max_tokens, theirs._batch_size, theirs.use_chat_template = None, 8, False
    found: list[tuple[float, bool]] = theirs.loglikelihood(requests)
    return found


def compare(folder: Path, task: str, limit: int, method: str) -> str:
    """A line: how far the two are apart, and in how many questions they choose alike."""
    from blendin_cli.eval.model import BlendinLM

    requests = requests_of(folder, task, limit)
    session, _ = session_of({"pair": "demo", "method": method, "wired_limit": False}, 1)
    model = session.pair.base if method == "base" else session.pair.aligned
    ours = BlendinLM(session, quiet=True).loglikelihood(requests)
    theirs = asked_by_mlx_lm(model, requests)
    apart = np.abs(np.subtract([one for one, _ in ours], [one for one, _ in theirs]))
    greedy = sum(one[1] == other[1] for one, other in zip(ours, theirs, strict=True))
    questions: dict[int, list[int]] = {}
    for place, request in enumerate(requests):
        questions.setdefault(request.doc_id, []).append(place)
    alike = sum(
        max(places, key=lambda n: ours[n][0]) == max(places, key=lambda n: theirs[n][0])
        for places in questions.values()
    )
    return (
        f"{method} ({model.name}): {len(requests)} requests, at most {apart.max():.1e} nats apart, "
        f"greedy alike in {greedy}; the same option in {alike} of {len(questions)} questions"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="local_openbookqa")
    parser.add_argument("--limit", type=int, default=100)
    given = parser.parse_args()
    prepare(fetch=False)
    for method in ("base", "aligned"):
        print(compare(given.folder, given.task, given.limit, method), flush=True)
